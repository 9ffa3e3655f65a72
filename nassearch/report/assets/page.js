// The page: the front, and what a click on it, in the table or on a chosen network shows.

const selected = { run: null, search: null, index: 0, setting: 0 };
const front = byId("front-figure");
let view = null;

const seriesOf = ([run, search]) => ({ run: content.runs[run], search: content.runs[run].searches[search] });

const columnOf = (search, name) => search.columns.find((column) => column.name === name);

function hoverText(run, search, index) {
  const lines = search.columns.map((column) => {
    const range = interval(column, index);
    const word = column.estimated ? " estimated" : "";
    return `${escaped(column.label)}: ${withUnit(column, column.values[index])}${word}${range ? ` (${range})` : ""}`;
  });
  const stages = escaped(describeNetwork(run, search, index)).replaceAll(" | ", "<br>");
  return `<b>${search.ids[index]}</b><br>${lines.join("<br>")}<br>${stages}`;
}

function showView(number) {
  view = content.views[number];
  const texts = view.series.map(seriesOf).map(({ run, search }) => search.ids.map((_, index) => hoverText(run, search, index)));
  const data = view.figure.data.map((trace) => (trace.meta ? { ...trace, text: trace.customdata.map((index) => texts[trace.meta.cloud][index]) } : trace));
  const columns = view.series.map(seriesOf).map(({ search }, at) => columnOf(search, view.x[at]));
  byId("view-provenance").textContent = [...new Set(columns.map((column) => `${column.label[0].toUpperCase()}${column.label.slice(1)}: ${column.provenance}.`))].join(" ");
  // Margins that fit by themselves would draw thousands of points twice.
  const margin = { l: 64, r: 16, t: narrow() ? 84 : 40, b: 56, autoexpand: false };
  draw(front, data, { ...view.figure.layout, shapes: shapes(), margin, height: narrow() ? 440 : 480 });
}

// Where the selected network stands: a square of so many pixels, drawn without drawing the points
// again; beyond the axes where the figure is of others.
function mark() {
  const at = view.series.map(seriesOf).findIndex(({ search }) => search === selected.search);
  const [x, y] = at < 0 ? [] : [view.x, view.y].map((names) => columnOf(selected.search, names[at]).values[selected.index]);
  return {
    type: "rect", xsizemode: "pixel", ysizemode: "pixel", x0: -10, x1: 10, y0: -10, y1: 10,
    xanchor: at < 0 ? 0 : x * view.factors[at], yanchor: y ?? 0, visible: at >= 0,
    line: { width: 2.5, color: COLORS.vermillion },
  };
}

const shapes = () => [mark(), ...(view.figure.layout.shapes ?? [])];

function moveMark() {
  drawn.get(front).layout.shapes = shapes();
  Plotly.relayout(front, { shapes: shapes() });
}

function choose(run, search, index) {
  const other = search !== selected.search;
  Object.assign(selected, { run, search, index });
  if (other) {
    selected.setting = 0;
    showSettings();
  }
  if (other && table.search !== search) {
    byId("search").value = allSearches().findIndex((one) => one.search === search);
    showTable(run, search);
  } else fillRows();
  moveMark();
  showNetwork(run, search, index, selected.setting);
}

function showSettings() {
  const select = byId("setting");
  select.replaceChildren(...selected.search.settings.map((setting, at) => new Option(setting.setting, at)));
  select.hidden = selected.search.settings.length < 2;
}

const allSearches = () => content.runs.flatMap((run) => run.searches.map((search) => ({ run, search })));

function start() {
  paint();
  showCharts();
  if (!content.views.length) return;
  const searches = allSearches();
  const names = searches.map(({ run, search }) => `${run.name}, search ${search.id}`);
  Object.assign(selected, searches[0]);
  const { search } = selected;
  selected.index = search.chosen.length ? search.chosen[search.chosen.length - 1][0] : search.front[0] ?? 0;
  fill(byId("view"), content.views.map((one) => one.label), showView);
  fill(byId("search"), names, (number) => showTable(searches[number].run, searches[number].search));
  byId("setting").addEventListener("change", (event) => {
    selected.setting = Number(event.target.value);
    showNetwork(selected.run, selected.search, selected.index, selected.setting);
  });
  startTable(choose);
  for (const button of document.querySelectorAll("button[data-image]")) {
    const { image } = button.dataset;
    button.addEventListener("click", () => Plotly.downloadImage(front, { format: image, filename: "front", scale: image === "png" ? 3 : 1 }));
  }
  showView(0);
  front.on("plotly_click", ({ points }) => {
    const { meta } = points[0].data;
    if (!meta) return;
    const { run, search: found } = seriesOf(view.series[meta.cloud]);
    choose(run, found, points[0].customdata);
  });
  for (const link of document.querySelectorAll("a[data-id]")) {
    link.addEventListener("click", () => {
      const run = content.runs[link.dataset.run];
      const found = run.searches[link.dataset.search];
      const index = found.ids.indexOf(link.dataset.id);
      if (index >= 0) choose(run, found, index);
    });
  }
  showSettings();
  showTable(selected.run, selected.search);
  showNetwork(selected.run, selected.search, selected.index, 0);
}

start();
// Ready when what is in sight is painted: a frame after the one that was just asked for.
requestAnimationFrame(() => requestAnimationFrame(() => {
  performance.mark("ready");
  document.documentElement.dataset.ready = "yes";
}));
