// Draws the figures, follows the theme, and keeps the figures over time in step.
(function () {
  "use strict";
  const TIME = "time_time_s"; // the signal of the parameter "time", over the field time_s
  const T = window.tokensim, data = T.data;
  const LETTER = 6.2; // pixels of one in a legend, about
  const views = new Map();
  const root = document.documentElement;
  const preferred = window.matchMedia("(prefers-color-scheme: dark)");
  let chosen = null; // "light" or "dark", once the reader has chosen
  let window_ = null; // [from, to] of the simulated time; null: all of it
  let shown = null; // the one instance; null: all
  let following = false;

  const placeOf = (name) => document.querySelector('[data-figure="' + name + '"]');
  const theme = () => chosen || (preferred.matches ? "dark" : "light");

  function setTime(view, range) {
    try {
      view.signal(TIME, range);
      view.runAsync();
    } catch (_) { /* a figure without the parameter */ }
  }

  function spread(range, from) {
    if (following) return;
    following = true;
    window_ = range;
    const others = [];
    for (const [name, result] of views) {
      if (name === from || !data.figures[name].timed) continue;
      try {
        result.view.signal(TIME, range);
        others.push(result.view.runAsync());
      } catch (_) { /* as above */ }
    }
    Promise.all(others).finally(() => { following = false; });
  }

  // A copy of `spec` whose legends have no more columns than stand in `width` pixels.
  function fitted(spec, width) {
    return JSON.parse(JSON.stringify(spec), (key, value) => {
      if (key !== "legend" || !value || !value.columns || !value.values) return value;
      const longest = Math.max(...value.values.map((name) => String(name).length)) * LETTER;
      const each = Math.min(longest, value.labelLimit || 150) + 40;
      const columns = Math.max(1, Math.min(value.columns, Math.floor((width - 70) / each)));
      return Object.assign(value, { columns: columns });
    });
  }

  async function draw(name) {
    const figure = data.figures[name], place = placeOf(name);
    const sets = {}, some = something(name);
    for (const [key, id] of Object.entries(figure.datasets))
      sets[key] = T.rows(id, some && figure.filtered.includes(key));
    const sideways = place.clientWidth < figure.leastWidth;
    place.classList.toggle("sideways", sideways);
    const whole = figure.spec;
    const given = Object.entries(figure.params).map(([key, value]) => ({ name: key, value: value }));
    const spec = Object.assign({}, fitted(whole, place.clientWidth), {
      description: figure.description,
      params: given.concat(whole.params || []),
      width: sideways ? figure.leastWidth : "container",
      autosize: { type: "fit-x", contains: "padding" },
      datasets: sets,
      config: data.themes[theme()],
    });
    const old = views.get(name);
    if (old) old.finalize();
    const result = await window.vegaEmbed(place, spec, {
      mode: "vega-lite",
      renderer: "svg",
      actions: false,
      tooltip: { theme: theme() },
    });
    views.set(name, result);
    if (figure.byInstance && shown !== null) await result.view.signal("shown", shown).runAsync();
    if (figure.timed) {
      if (window_) setTime(result.view, window_);
      result.view.addSignalListener(TIME, (_, range) => spread(range ? Array.from(range) : null, name));
    }
    if (figure.chooses)
      result.view.addEventListener("click", (_, item) => {
        if (item && item.datum && item.datum[figure.chooses]) T.pick(item.datum[figure.chooses], true);
      });
    place.dataset.drawn = theme();
  }

  // What is of another choice is not drawn, and let go if it was.
  function drop(name) {
    if (!views.has(name)) return;
    views.get(name).finalize();
    views.delete(name);
    placeOf(name).replaceChildren();
    delete placeOf(name).dataset.drawn;
  }

  // Whether the filters leave a figure anything to draw; without it, its card says so instead.
  function something(name) {
    const figure = data.figures[name];
    const left = !figure.filtered.length || figure.filtered.some((key) => T.places(figure.datasets[key]).length);
    document.getElementById("figure-" + name).classList.toggle("none", !left);
    return left;
  }

  // The rows that the layer `figure.numbered` draws, or all that are chosen; as places in the texts.
  function numbered(figure, result) {
    const layer = figure.numbered && marks(result.vgSpec.marks).find((mark) => mark.name === figure.numbered + "_marks");
    if (layer) return result.view.data(layer.from.data).map((row) => row.row);
    const id = figure.datasets[figure.filtered[0]];
    return T.places(id).map((at) => data.tables[id].row[at]);
  }

  const marks = (list) => list.flatMap((mark) => [mark, ...marks(mark.marks || [])]);

  function numbers(name, result) {
    const figure = data.figures[name], all = numbered(figure, result).sort((a, b) => a - b);
    const step = Math.max(1, Math.ceil(all.length / data.numberRows));
    const table = document.querySelector("#figure-" + CSS.escape(name) + " details table");
    T.fill(table, data.filters.texts, figure.numbers, all.filter((_, i) => i % step === 0));
  }

  // Draws what the filters have left; one that comes while another is at work ends it.
  let turn = 0;
  async function refresh() {
    const own = ++turn;
    root.dataset.settled = "";
    const away = (name) => {
      const box = document.getElementById("figure-" + name).getBoundingClientRect();
      return box.bottom < 0 || box.top > window.innerHeight;
    };
    const inSight = [...views].sort(([a], [b]) => away(a) - away(b)); // what the reader sees first
    for (const [name, result] of inSight) {
      const figure = data.figures[name];
      if (!figure.filtered.length) continue;
      if (something(name)) {
        for (const key of figure.filtered) result.view.data(key, T.rows(figure.datasets[key], true));
        await result.view.runAsync();
        if (own !== turn) return;
        if (data.filters) numbers(name, result);
      }
    }
    root.dataset.settled = String(own);
  }

  // Draws what is shown and not yet drawn in this theme; one that comes while another is at work ends it.
  let round = 0, drawing = Promise.resolve();
  function drawAll() {
    const own = ++round;
    root.dataset.drawn = "";
    drawing = drawing.then(async () => {
      const before = turn;
      for (const name of Object.keys(data.figures)) {
        if (own !== round) return;
        if (placeOf(name).closest("[hidden]")) drop(name);
        else if (placeOf(name).dataset.drawn !== theme()) await draw(name);
      }
      if (turn !== before) await refresh(); // chosen anew in the meantime
      if (own === round) root.dataset.drawn = theme();
    });
  }

  // Another choice: another time axis.
  function appear() {
    window_ = null;
    drawAll();
  }

  function wholeTime() {
    for (const [name, result] of views) {
      if (!data.figures[name].timed) continue;
      const spec = data.figures[name].spec;
      const layer = spec.layer ? spec.layer[0] : spec;
      return layer.encoding.x.scale.domain;
    }
    return [0, 1];
  }

  function zoom(how) {
    const whole = wholeTime();
    const now = window_ || whole;
    const width = now[1] - now[0], middle = (now[0] + now[1]) / 2;
    let next = null;
    if (how === "in") next = [middle - width / 4, middle + width / 4];
    if (how === "out") next = [middle - width, middle + width];
    if (how === "earlier") next = [now[0] - width / 2, now[1] - width / 2];
    if (how === "later") next = [now[0] + width / 2, now[1] + width / 2];
    if (next && next[1] - next[0] >= whole[1] - whole[0]) next = null;
    if (next && next[0] < whole[0]) next = [whole[0], whole[0] + next[1] - next[0]];
    if (next && next[1] > whole[1]) next = [whole[1] - (next[1] - next[0]), whole[1]];
    spread(next, null);
  }

  for (const button of document.querySelectorAll("[data-zoom]"))
    button.addEventListener("click", () => zoom(button.dataset.zoom));

  for (const select of document.querySelectorAll(".instances"))
    select.addEventListener("change", () => {
      shown = select.value || null;
      for (const other of document.querySelectorAll(".instances")) other.value = select.value;
      for (const [name, result] of views)
        if (data.figures[name].byInstance) result.view.signal("shown", shown).runAsync();
    });

  async function save(name, format) {
    const view = views.get(name).view;
    const ground = getComputedStyle(root).getPropertyValue("--card").trim();
    const before = view.background();
    const url = await view.background(ground).toImageURL(format, 2);
    view.background(before).run();
    const link = document.createElement("a");
    link.href = url;
    link.download = name + "." + format;
    link.click();
  }

  for (const [name, figure] of Object.entries(data.figures)) {
    const line = document.createElement("p");
    line.className = "save";
    line.textContent = "Save ";
    for (const format of ["svg", "png"]) {
      const button = document.createElement("button"), told = format.toUpperCase();
      Object.assign(button, { type: "button", textContent: told });
      Object.assign(button.dataset, { of: name, save: format });
      button.setAttribute("aria-label", "Save " + figure.title + " as " + told);
      button.addEventListener("click", () => save(name, format));
      line.append(button, " ");
    }
    document.getElementById("figure-" + name).append(line);
  }

  const toggle = document.getElementById("theme");
  function label() {
    const dark = theme() === "dark";
    toggle.textContent = dark ? "Light" : "Dark";
    toggle.setAttribute("aria-pressed", String(dark));
    root.classList.toggle("dark", chosen === "dark");
    root.classList.toggle("light", chosen === "light");
  }
  toggle.hidden = false;
  toggle.setAttribute("aria-label", "Dark theme");
  toggle.addEventListener("click", () => {
    chosen = theme() === "dark" ? "light" : "dark";
    label();
    drawAll();
  });
  preferred.addEventListener("change", () => { if (!chosen) { label(); drawAll(); } });
  label();
  Object.assign(T, { views: views, zoom: zoom, refresh: refresh, appear: appear });
  drawAll();
})();
