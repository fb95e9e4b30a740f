// Reads the controls of the filters, and sorts lists by their headers. What the controls say is the only state.
(function () {
  "use strict";
  const T = window.tokensim, data = T.data;
  const form = document.getElementById("filters");
  const sorted = new Map(); // list -> [column, descending]

  // What the controls of one filter ask for: null, or {field, passes, told}.
  function asked(filter, at) {
    const place = form.querySelector('[data-filter="' + at + '"]');
    if (filter.kind === "range") {
      const [from, to] = ["from", "to"].map((end) => place.querySelector('[data-end="' + end + '"]').value);
      if (from === "" && to === "") return null;
      const low = from === "" ? -Infinity : Number(from), high = to === "" ? Infinity : Number(to);
      const told = from === "" ? "up to " + to : to === "" ? "from " + from : from + " to " + to;
      return { field: filter.field, told: told, passes: (v) => v !== null && v >= low && v <= high };
    }
    const ticked = [...place.querySelectorAll("input:checked")];
    if (!ticked.length) return null;
    const wanted = new Set(ticked.map((box) => filter.values[Number(box.value)]));
    const names = ticked.map((box) => box.parentElement.textContent.trim());
    const told = names.length > 3 ? names.length + " of " + filter.values.length : names.join(", ");
    return { field: filter.field, told: told, passes: (v) => wanted.has(v) };
  }

  // The choices of a single value, in the controls of sections.
  function single() {
    return [...document.querySelectorAll("select.by")].filter((select) => select.value !== "").map((select) => {
      const wanted = JSON.parse(select.dataset.values)[Number(select.value)];
      return { field: select.dataset.field, passes: (value) => value === wanted };
    });
  }

  // Those of the form, each with what it asks for written on it.
  function several() {
    return data.filters.by.flatMap((filter, at) => {
      const place = form.querySelector('[data-filter="' + at + '"]'), told = place.querySelector(".told");
      const test = asked(filter, at);
      if (told) told.textContent = test ? test.told : "all";
      place.classList.toggle("on", Boolean(test));
      return test ? [test] : [];
    });
  }

  let restricted = false;
  function choose() {
    const tests = single().concat(form ? several() : []);
    T.choose(tests);
    if (form) {
      const all = T.size(data.filters.table), shown = T.places(data.filters.table).length;
      form.querySelector(".count").textContent =
        shown.toLocaleString("en") + " of " + all.toLocaleString("en") + " " + data.filters.what;
      form.querySelector("[type=reset]").disabled = !tests.length;
    }
    document.querySelectorAll("[data-listing]").forEach(list);
    if (restricted || tests.length) T.refresh();
    restricted = tests.length > 0;
  }

  // Numbers before texts; nothing last, however they are sorted.
  function compare(a, b, sign) {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a !== typeof b) return sign * (typeof a === "number" ? -1 : 1);
    return sign * (a < b ? -1 : a > b ? 1 : 0);
  }

  function list(table) {
    const { texts, keys, worth } = data.listings[Number(table.dataset.listing)];
    const places = T.places(keys).slice();
    const [column, down] = sorted.get(table) || [null, false];
    if (column !== null) {
      const values = data.tables[keys][column];
      places.sort((a, b) => compare(values[a], values[b], down ? -1 : 1) || a - b);
    }
    T.fill(table, texts, Object.keys(data.tables[texts]), places.slice(0, data.listed), worth);
    if (T.marked) T.marked();
    const note = table.closest(".scroll").nextElementSibling, all = places.length;
    note.textContent = all > data.listed ? "The first " + data.listed + " of " + all.toLocaleString("en") + "." : "";
  }

  function sortable(table) {
    const { keys } = data.listings[Number(table.dataset.listing)];
    for (const head of table.tHead.rows[0].cells) {
      const name = head.textContent;
      if (!(name in data.tables[keys])) continue;
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = name;
      button.title = "Sort by " + name;
      button.addEventListener("click", () => {
        const [column, down] = sorted.get(table) || [null, false];
        const next = column !== name ? [name, false] : down ? [null, false] : [name, true];
        sorted.set(table, next);
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        if (next[0] !== null) head.setAttribute("aria-sort", next[1] ? "descending" : "ascending");
        list(table);
      });
      head.replaceChildren(button);
    }
  }

  document.querySelectorAll("[data-listing]").forEach(sortable);
  for (const select of document.querySelectorAll("select.by")) select.addEventListener("change", choose);
  if (!form) return choose();
  const opened = () => form.querySelectorAll("details[open]");
  form.addEventListener("input", choose);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(choose));
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const details of opened()) {
      details.open = false;
      details.querySelector("summary").focus();
    }
  });
  document.addEventListener("click", (event) => {
    for (const details of opened()) if (!details.contains(event.target)) details.open = false;
  });
  form.hidden = false;
  choose();
})();
