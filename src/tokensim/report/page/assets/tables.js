// The tables of the page: which of their rows are chosen, as objects for figures and as rows of HTML.
window.tokensim = (function () {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  for (const figure of Object.values(data.figures)) figure.spec = data.specs[figure.spec];
  let tests = []; // {field, passes}: what a row must be to be shown
  const kept = new Map(); // number of a table -> places of the rows that are chosen

  const size = (columns) => { for (const name in columns) return columns[name].length; return 0; };

  function places(id) {
    if (!kept.has(id)) {
      const columns = data.tables[id];
      const told = tests.filter((test) => test.field in columns);
      const out = [];
      for (let i = 0, n = size(columns); i < n; i++)
        if (told.every((test) => test.passes(columns[test.field][i]))) out.push(i);
      kept.set(id, out);
    }
    return kept.get(id);
  }

  // New objects each time: a view keeps those that it is given, and writes into them.
  function rows(id, chosen) {
    const columns = data.tables[id], names = Object.keys(columns);
    const row = (i) => Object.fromEntries(names.map((name) => [name, columns[name][i]]));
    return chosen ? places(id).map(row) : Array.from({ length: size(columns) }, (_, i) => row(i));
  }

  function choose(next) {
    tests = next;
    kept.clear();
  }

  // `names` of the columns of table `texts`, at `places`, as the body of `table`; `worth` colours its cells.
  function fill(table, texts, names, places, worth) {
    const columns = data.tables[texts], worths = worth === undefined ? {} : data.tables[worth];
    const right = [...table.tHead.rows[0].cells].map((cell) => cell.classList.contains("right"));
    const body = document.createElement("tbody");
    for (const at of places) {
      const row = body.insertRow();
      names.forEach((name, i) => {
        const cell = row.insertCell(), value = columns[name][at];
        cell.textContent = value === null ? "–" : value;
        if (right[i]) cell.className = "right";
        if (worths[name] && worths[name][at]) cell.classList.add("right", worths[name][at]);
      });
    }
    table.tBodies[0].replaceWith(body);
  }

  return { data: data, places: places, rows: rows, choose: choose, fill: fill, size: (id) => size(data.tables[id]) };
})();
