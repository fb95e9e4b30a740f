// One of several is shown at a time: the sections of the others are hidden, and their figures not drawn.
(function () {
  "use strict";
  const T = window.tokensim;
  const form = document.getElementById("chooser");
  if (!form) return;
  const select = form.querySelector("select");
  const names = [...select.options].map((option) => option.value);

  function show() {
    for (const part of document.querySelectorAll("[data-choice]")) part.hidden = part.dataset.choice !== select.value;
    form.querySelector(".count").textContent = select.selectedIndex + 1 + " of " + names.length;
    for (const button of form.querySelectorAll("[data-step]"))
      button.disabled = !(select.selectedIndex + Number(button.dataset.step) in names);
    mark();
  }

  // Cells that name a choice, and the row of the one that is chosen.
  function mark() {
    for (const cell of document.querySelectorAll("[data-chooses] td:first-child")) {
      cell.classList.add("choice");
      cell.parentElement.classList.toggle("chosen", cell.textContent === select.value);
    }
  }

  // Chooses `name`; `go`: and moves there.
  T.pick = (name, go) => {
    if (!names.includes(name)) return;
    if (name !== select.value) {
      select.value = name;
      show();
      T.appear();
    }
    if (go) form.scrollIntoView();
  };

  // A link to a section of another choice chooses it.
  function follow() {
    const aim = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!aim || !aim.dataset.choice) return;
    select.value = aim.dataset.choice;
    show();
    if (T.appear) T.appear();
    aim.scrollIntoView();
  }

  select.addEventListener("change", () => { show(); T.appear(); });
  for (const button of form.querySelectorAll("[data-step]"))
    button.addEventListener("click", () => T.pick(names[select.selectedIndex + Number(button.dataset.step)]));
  document.addEventListener("click", (event) => {
    const cell = event.target.closest("[data-chooses] td.choice");
    if (cell) T.pick(cell.textContent, true);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("hashchange", follow);
  form.hidden = false;
  show();
  T.marked = mark;
  follow();
})();
