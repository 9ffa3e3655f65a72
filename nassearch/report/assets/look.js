// How figures look: light or dark as the page is, drawn when they come into sight.

const COLORS = { grey: "#8a929c", orange: "#e69f00", green: "#009e73", blue: "#0072b2", vermillion: "#d55e00" };
const byId = (id) => document.getElementById(id);
const content = JSON.parse(byId("document").textContent);
const coarse = matchMedia("(pointer: coarse)").matches;
const narrow = () => innerWidth < 640;

// Plotly reads tags in the text it is given.
const escaped = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

const digits = (value, count = 3) =>
  value === null || value === undefined ? "–" : String(Number(value.toPrecision(count)));
const milliseconds = (ms) => (Math.abs(ms) < 1 ? `${digits(ms * 1e3)} µs` : `${digits(ms)} ms`);
const counted = (value) => {
  for (const [size, unit] of [[1e9, " G"], [1e6, " M"], [1e3, " K"]]) {
    if (value >= size) return digits(value / size) + unit;
  }
  return digits(value);
};

// -- light and dark ---------------------------------------------------------------------------------

const THEMES = ["auto", "light", "dark"];
const system = matchMedia("(prefers-color-scheme: dark)");
let theme = "auto";
const drawn = new Map(); // figure -> its data and layout as they were given

function isDark() {
  return theme === "dark" || (theme === "auto" && system.matches);
}

function template(layout) {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  const axis = {
    gridcolor: color("--line"), linecolor: color("--soft"), zerolinecolor: color("--line"),
    tickcolor: color("--line"), automargin: !layout.margin, title: { standoff: 10 },
  };
  return {
    layout: {
      font: { family: getComputedStyle(document.body).fontFamily, size: narrow() ? 11 : 13, color: color("--ink") },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      xaxis: axis, yaxis: axis,
      hoverlabel: { bgcolor: color("--paper"), bordercolor: color("--line"), font: { color: color("--ink"), size: 12 }, align: "left" },
      margin: { l: 56, r: 16, t: 24, b: 48 },
    },
  };
}

function paint() {
  document.documentElement.dataset.theme = isDark() ? "dark" : "light";
  byId("theme").textContent = `Theme: ${theme}`;
  for (const [figure, { data, layout }] of drawn) draw(figure, data, layout);
}

byId("theme").addEventListener("click", () => {
  theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  paint();
});
system.addEventListener("change", paint);

// -- drawing ----------------------------------------------------------------------------------------

const CONFIG = {
  responsive: true, displaylogo: false,
  displayModeBar: matchMedia("(hover: hover)").matches ? "hover" : false,
  modeBarButtons: [["zoom2d", "pan2d", "resetScale2d"]],
};

function draw(figure, data, layout) {
  drawn.set(figure, { data, layout });
  const whole = { ...layout, template: template(layout) };
  if (coarse) whole.dragmode = false; // a finger scrolls the page
  if (narrow() && layout.legend) whole.legend = { ...layout.legend, entrywidth: 0.5, entrywidthmode: "fraction" };
  return Plotly.react(figure, data.map(shaded), whole, CONFIG);
}

// Of a scale of colours, the end that stands out from the ground is the high one.
function shaded(trace) {
  const reversescale = !isDark();
  if (trace.type === "heatmap") return { ...trace, reversescale };
  return trace.marker?.colorscale ? { ...trace, marker: { ...trace.marker, reversescale } } : trace;
}

// What waits to be drawn until it is seen, or until the page is printed.
const waiting = new Map();
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) drawNow(entry.target);
}, { rootMargin: "250px" });

function drawWhenSeen(figure, work) {
  waiting.set(figure, work);
  seen.unobserve(figure);
  seen.observe(figure);
}

function drawNow(figure) {
  const work = waiting.get(figure);
  waiting.delete(figure);
  seen.unobserve(figure);
  if (work) work();
}

const PAPER_WIDTH = 680;
addEventListener("beforeprint", () => {
  const before = theme;
  theme = "light";
  for (const figure of [...waiting.keys()]) drawNow(figure);
  paint();
  theme = before;
  for (const figure of drawn.keys()) Plotly.relayout(figure, { width: Math.min(PAPER_WIDTH, figure.clientWidth) });
});
addEventListener("afterprint", () => {
  for (const figure of drawn.keys()) Plotly.relayout(figure, { width: null, autosize: true });
  paint();
});

// -- figures that nothing changes ---------------------------------------------------------------------

function fill(select, labels, choose) {
  select.replaceChildren(...labels.map((label, index) => new Option(label, index)));
  select.hidden = labels.length < 2;
  select.addEventListener("change", () => choose(Number(select.value)));
}

function showCharts() {
  for (const select of document.querySelectorAll("select[data-charts]")) {
    const name = select.dataset.charts;
    const charts = content.charts[name];
    const figure = byId(`${name}-figure`);
    const show = (index) => {
      const chart = charts[index];
      byId(`${name}-note`).textContent = chart.note;
      const columns = chart.figure.data[0].type === "heatmap" ? chart.figure.data[0].x.length : 0;
      figure.style.minWidth = columns ? `${140 + 34 * columns}px` : "";
      const height = chart.figure.layout.height ?? (narrow() ? 340 : 400);
      figure.style.minHeight = `${height}px`;
      drawWhenSeen(figure, () => draw(figure, chart.figure.data, { ...chart.figure.layout, height }));
    };
    fill(select, charts.map((chart) => chart.label), show);
    show(0);
  }
}
