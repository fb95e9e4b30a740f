// Draws the figures, follows the theme, and keeps the figures over time in step.
(function () {
  "use strict";
  const TIME = "time_time_s"; // the signal of the parameter "time", over the field time_s
  const data = JSON.parse(document.getElementById("data").textContent);
  const views = new Map();
  const root = document.documentElement;
  const preferred = window.matchMedia("(prefers-color-scheme: dark)");
  let chosen = null; // "light" or "dark", once the reader has chosen
  let window_ = null; // [from, to] of the simulated time; null: all of it
  let shown = null; // the one instance; null: all
  let following = false;

  const theme = () => chosen || (preferred.matches ? "dark" : "light");

  function rows(columns) {
    const names = Object.keys(columns);
    const size = names.length ? columns[names[0]].length : 0;
    const out = new Array(size);
    for (let i = 0; i < size; i++) {
      const row = {};
      for (const name of names) row[name] = columns[name][i];
      out[i] = row;
    }
    return out;
  }

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

  async function draw(name) {
    const figure = data.figures[name];
    const place = document.querySelector('[data-figure="' + name + '"]');
    const sets = {};
    for (const key of Object.keys(figure.datasets)) sets[key] = rows(figure.datasets[key]);
    const spec = Object.assign({}, figure.spec, {
      width: "container",
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
    place.dataset.drawn = theme();
  }

  async function drawAll() {
    root.dataset.drawn = "";
    for (const name of Object.keys(data.figures)) await draw(name);
    root.dataset.drawn = theme();
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

  for (const button of document.querySelectorAll("[data-save]"))
    button.addEventListener("click", () => save(button.dataset.of, button.dataset.save));

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
  window.tokensim = { views: views, zoom: zoom };
  drawAll();
})();
