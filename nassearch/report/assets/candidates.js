// The table of candidates: sorted by a click on a heading, filtered by words, 25 rows at a time.

const ROWS = 25;
const table = { run: null, search: null, sort: 0, descending: false, page: 0, rows: [], columns: [], choose: () => {} };

function tableColumns(run, search) {
  const front = new Set(search.front), chosen = new Map(search.chosen);
  const depth = (index) => search.stages[index].slice(1, -1).reduce((sum, stage) => sum + stage.length, 0);
  return [
    { name: "network", title: "network", value: (index) => search.ids[index], code: true },
    { name: "on", title: "on", value: (index) => (chosen.has(index) ? `chosen (${chosen.get(index)})` : front.has(index) ? "front" : "") },
    ...search.columns.map((column) => ({
      name: column.name, number: true, digits: 4, direction: column.direction,
      title: `${column.name.replaceAll("_", " ")}${column.unit ? `, ${column.unit}` : ""}${column.estimated ? " (estimated)" : ""}`,
      value: (index) => column.values[index],
    })),
    { name: "pixels", title: "pixels", number: true, value: (index) => search.pixels[index] },
    { name: "depth", title: "depth", number: true, value: depth },
    { name: "architecture", title: "architecture", value: (index) => describeNetwork(run, search, index), code: true },
  ];
}

// Words hold together: `accuracy>98` compares a column, anything else is looked for in the texts.
function filterOf(text, columns) {
  const tests = [], unknown = [];
  for (const word of text.trim().split(/\s+/).filter(Boolean)) {
    const parts = word.match(/^([^<>=]+)(<=|>=|<|>|=)(-?[0-9.]+)$/);
    if (!parts) {
      const wanted = word.toLowerCase();
      tests.push((index) => columns.some((column) => !column.number && String(column.value(index)).toLowerCase().includes(wanted)));
      continue;
    }
    const [, name, sign, limit] = parts;
    const column = columns.find((one) => one.number && one.name.startsWith(name.toLowerCase()));
    if (!column) {
      unknown.push(name);
      continue;
    }
    const bound = Number(limit);
    const compare = { "<": (v) => v < bound, ">": (v) => v > bound, "<=": (v) => v <= bound, ">=": (v) => v >= bound, "=": (v) => v === bound }[sign];
    tests.push((index) => column.value(index) !== null && compare(column.value(index)));
  }
  return [(index) => tests.every((test) => test(index)), unknown];
}

function arrange() {
  const { columns, search } = table;
  const [keep, unknown] = filterOf(byId("filter").value, columns);
  const column = columns[table.sort];
  const order = table.descending ? -1 : 1;
  const compare = (a, b) => {
    const [first, second] = [column.value(a), column.value(b)];
    if (first === null || second === null) return (first === null) - (second === null);
    return order * (column.number ? first - second : String(first).localeCompare(String(second)));
  };
  table.rows = search.ids.map((_, index) => index).filter(keep).sort(compare);
  table.page = 0;
  byId("filter-help").textContent = unknown.length
    ? `There is no column ${unknown.join(", ")}; there are ${columns.filter((one) => one.number).map((one) => one.name).join(", ")}.`
    : `${table.rows.length} of ${search.ids.length} networks.`;
  fillRows();
}

function heading() {
  const row = document.createElement("tr");
  table.columns.forEach((column, at) => {
    const cell = document.createElement("th"), button = document.createElement("button");
    button.type = "button";
    button.textContent = column.title;
    button.addEventListener("click", () => {
      table.descending = table.sort === at ? !table.descending : column.direction === "max";
      table.sort = at;
      heading();
      arrange();
    });
    cell.className = column.number ? "number" : "";
    cell.setAttribute("aria-sort", at !== table.sort ? "none" : table.descending ? "descending" : "ascending");
    cell.append(button);
    row.append(cell);
  });
  byId("candidate-table").tHead.replaceChildren(row);
}

function fillRows() {
  const pages = Math.max(1, Math.ceil(table.rows.length / ROWS));
  const shown = table.rows.slice(table.page * ROWS, (table.page + 1) * ROWS);
  byId("candidate-table").tBodies[0].replaceChildren(...shown.map((index) => {
    const row = document.createElement("tr");
    row.dataset.index = index;
    row.className = table.run === selected.run && table.search === selected.search && index === selected.index ? "selected" : "";
    for (const column of table.columns) {
      const cell = document.createElement("td");
      const value = column.value(index);
      const text = column.number ? digits(value, column.digits ?? 6) : value;
      if (column.code) {
        const code = document.createElement("code");
        code.textContent = text;
        cell.append(code);
      } else cell.textContent = text;
      cell.className = column.number ? "number" : "";
      row.append(cell);
    }
    return row;
  }));
  byId("page-number").textContent = `${table.page + 1} of ${pages}`;
  byId("previous").disabled = table.page === 0;
  byId("next").disabled = table.page + 1 >= pages;
}

const quoted = (value) => {
  const text = value === null ? "" : String(value);
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

function download() {
  const lines = [table.columns.map((column) => column.title), ...table.rows.map((index) => table.columns.map((column) => column.value(index)))];
  const text = lines.map((line) => line.map(quoted).join(",")).join("\n") + "\n";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = `${table.run.name}-candidates.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function showTable(run, search) {
  Object.assign(table, { run, search, columns: tableColumns(run, search) });
  const merit = search.columns.findIndex((column) => column.direction === "max");
  table.sort = merit < 0 ? 0 : merit + 2;
  table.descending = merit >= 0;
  heading();
  arrange();
}

function startTable(choose) {
  let timer = 0;
  byId("filter").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(arrange, 80);
  });
  byId("previous").addEventListener("click", () => { table.page -= 1; fillRows(); });
  byId("next").addEventListener("click", () => { table.page += 1; fillRows(); });
  byId("download").addEventListener("click", download);
  byId("candidate-table").tBodies[0].addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (row) choose(table.run, table.search, Number(row.dataset.index));
  });
}
