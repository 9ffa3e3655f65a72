// The network that was chosen by a click: its blocks, where its time goes, and why.

const describeBlock = (block) => {
  const numbers = [];
  if (block.k !== null) numbers.push(`k${block.k}`);
  if (block.e !== null) numbers.push(`e${block.e}`);
  return numbers.join(" ");
};

// `r160 | 16: k3 e1 | 24: k3 e4, k5 e6`: what every stage chose.
function describeNetwork(run, search, index) {
  const blocks = run.blocks;
  const stages = search.stages[index].slice(1, -1).map((stage) => {
    const width = stage.length ? blocks[stage[0]].o : 0;
    return `${width}: ${stage.map((at) => describeBlock(blocks[at]) || blocks[at].op).join(", ")}`;
  });
  return `r${search.pixels[index]} | ${stages.join(" | ")}`;
}

const withUnit = (column, value) => `${digits(value, 4)}${column.unit ? ` ${column.unit}` : ""}`;

function interval(column, index) {
  const low = column.low?.[index], high = column.high?.[index];
  return low === null || low === undefined ? "" : `${digits(low)} to ${digits(high)}`;
}

function networkFacts(run, search, index) {
  const facts = search.columns.map((column) => {
    const notes = [interval(column, index)];
    const measured = search.measured[column.name]?.[index];
    if (measured !== undefined) notes.push(`measured ${milliseconds(measured)}`);
    const word = column.estimated ? "estimated" : "";
    return [column.label, withUnit(column, column.values[index]), notes.filter(Boolean).join(", "), word];
  });
  const depth = search.stages[index].slice(1, -1).reduce((sum, stage) => sum + stage.length, 0);
  facts.push(["image", `${search.pixels[index]} pixels`, "", ""], ["depth", `${depth} blocks`, "", ""]);
  byId("network-facts").replaceChildren(...facts.map(([name, value, note, word]) => {
    const item = document.createElement("div");
    const term = document.createElement("dt"), given = document.createElement("dd");
    term.textContent = name;
    given.textContent = value;
    if (word) {
      const mark = document.createElement("mark");
      mark.textContent = word;
      given.append(" ", mark);
    }
    if (note) {
      const small = document.createElement("small");
      small.textContent = note;
      given.append(small);
    }
    item.append(term, given);
    return item;
  }));
}

// -- block by block ------------------------------------------------------------------------------------

function networkFigure(blocks, stageEnds, times, setting) {
  const unit = times && Math.max(...times) < 1 ? "µs" : "ms";
  const scale = unit === "µs" ? 1e3 : 1;
  // The head is as high as what comes in: a thousand classes would flatten everything else.
  const widths = blocks.map((block) => (block.op === "head" ? block.i : block.o));
  const hover = blocks.map((block, at) => [
    `<b>${escaped(block.key)}</b>`,
    `${block.i} → ${block.o} channels, ${block.r} pixels${block.s > 1 ? `, stride ${block.s}` : ""}`,
    `${counted(block.macs)} multiply-accumulates, ${counted(block.params)} parameters`,
    ...(block.p === null ? [] : [`in ${block.p}`]),
    ...(times ? [`${milliseconds(times[at])}, ${setting.source}`] : []),
  ].join("<br>"));
  const crowded = blocks.length > (narrow() ? 6 : 18);
  const join = crowded ? " " : "<br>";
  const labels = blocks.map((block, at) => {
    const choices = [block.k === null ? "" : `k${block.k}`, block.e === null ? "" : `e${block.e}`].filter(Boolean);
    const name = at === blocks.length - 1 ? "head" : choices.join(join) || escaped(block.op);
    return block.p === null ? name : `${name}${join}${block.p}`;
  });
  const bars = {
    type: "bar", x: blocks.map((_, at) => at), y: widths, base: widths.map((width) => -width / 2),
    width: 0.82, customdata: hover, hovertemplate: "%{customdata}<extra></extra>",
    marker: times
      ? {
          color: times.map((ms) => ms * scale), colorscale: "Cividis", cmin: 0, cmax: Math.max(...times) * scale,
          line: { width: 0 },
          colorbar: {
            title: { text: `${unit}${setting.source === "estimated" ? " (estimated)" : ""}`, side: "right" },
            thickness: 12, outlinewidth: 0,
          },
        }
      : { color: COLORS.blue },
  };
  const numbers = {
    type: "scatter", mode: "text", x: bars.x, y: widths.map((width) => width / 2), hoverinfo: "skip",
    text: blocks.map((block) => (block.op === "head" && !crowded ? `${block.o} classes` : block.o)),
    textposition: "top center", textfont: { size: narrow() ? 9 : 11 }, cliponaxis: false,
  };
  const shapes = stageEnds.slice(0, -1).map((end) => ({
    type: "line", x0: end - 0.5, x1: end - 0.5, yref: "paper", y0: 0, y1: 1,
    line: { color: COLORS.grey, width: 1, dash: "dot" },
  }));
  let pixels = null;
  const annotations = [];
  blocks.forEach((block, at) => {
    if (block.r !== pixels) {
      pixels = block.r;
      annotations.push({
        x: at - 0.4, y: 1, yref: "paper", yanchor: "bottom", xanchor: "left", showarrow: false,
        text: `${pixels} px`, font: { size: 11, color: COLORS.grey },
      });
    }
  });
  const layout = {
    height: 320, bargap: 0, showlegend: false, shapes, annotations,
    xaxis: { tickvals: blocks.map((_, at) => at), ticktext: labels, tickangle: crowded ? -90 : 0, showgrid: false, zeroline: false },
    yaxis: {
      title: { text: "channels (width)" }, showticklabels: false, showgrid: false, zeroline: false,
      range: [-0.52, 0.6].map((share) => share * Math.max(...widths)),
    },
  };
  return [[bars, numbers], layout];
}

// -- latency = operations / (peak x efficiency), block by block ---------------------------------------------

function efficiencyOf(blocks, times, setting) {
  const reference = setting.peak_gops ?? setting.fastest_gops;
  if (!times || !reference) return null;
  const operations = blocks.map((block) => 2 * block.macs * setting.batch);
  const ideal = operations.map((count) => count / (reference * 1e6));
  return {
    reference, operations, ideal,
    share: times.map((ms, at) => (ms > 0 ? ideal[at] / ms : 0)),
    total: times.reduce((sum, ms) => sum + ms, 0) + setting.constant_ms,
    totalIdeal: ideal.reduce((sum, ms) => sum + ms, 0),
  };
}

// Bars side by side, each as wide as `sizes` says: their left edges.
function lefts(sizes) {
  let edge = 0;
  return sizes.map((size) => {
    edge += size;
    return edge - size;
  });
}

// A round distance of ticks: Plotly would otherwise take it from the first bars.
function tickDistance(total) {
  const rough = total / 5, size = 10 ** Math.floor(Math.log10(rough));
  return size * ([1, 2, 5].find((step) => step * size >= rough) ?? 10);
}

function gapFigure(blocks, times, found) {
  const unit = found.total < 1 ? "µs" : "ms";
  const scale = unit === "µs" ? 1e3 : 1;
  const widths = times.map((ms) => Math.max(0, ms) * scale);
  const hover = blocks.map((block, at) => [
    `<b>${escaped(block.key)}</b>`, `takes ${milliseconds(times[at])}`,
    `its arithmetic at the reference rate: ${milliseconds(found.ideal[at])}`,
    `efficiency ${digits(100 * found.share[at])} %`,
  ].join("<br>"));
  const common = { type: "bar", x: lefts(widths), width: widths, offset: 0, customdata: hover, hovertemplate: "%{customdata}<extra></extra>" };
  const data = [
    { ...common, y: found.share.map((share) => 100 * Math.min(1, share)), name: "arithmetic", marker: { color: COLORS.blue, line: { width: 0.5, color: "rgba(255,255,255,.6)" } } },
    { ...common, y: found.share.map((share) => 100 * Math.max(0, 1 - share)), name: "efficiency gap", marker: { color: "rgba(230,159,0,.35)", line: { width: 0.5, color: "rgba(255,255,255,.6)" } } },
  ];
  return [data, {
    barmode: "stack", height: 300, legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
    xaxis: { title: { text: `time within the network, ${unit}` }, showgrid: false, dtick: tickDistance(found.total * scale) },
    yaxis: { title: { text: "efficiency, %" }, range: [0, 100] },
  }];
}

function waterlineFigure(blocks, setting, found) {
  const bytes = blocks.map((block) => setting.bytes * (block.weights + setting.batch * block.moved));
  const total = bytes.reduce((sum, one) => sum + one, 0);
  const [scale, unit] = total >= 1e6 ? [1e-6, "MB"] : [1e-3, "KB"];
  const widths = bytes.map((one) => one * scale);
  const intensity = bytes.map((one, at) => (one > 0 ? found.operations[at] / one : 0));
  const line = setting.bandwidth_gb_s ? setting.peak_gops / setting.bandwidth_gb_s : null;
  const hover = blocks.map((block, at) => [
    `<b>${escaped(block.key)}</b>`, `${counted(found.operations[at])} operations, ${counted(bytes[at])}B moved`,
    `${digits(intensity[at])} operations a byte`,
    ...(line ? [intensity[at] < line ? "below the waterline: memory bound" : "above it: bound by arithmetic"] : []),
  ].join("<br>"));
  const bar = (name, color, chosen) => ({
    type: "bar", name, x: lefts(widths).filter((_, at) => chosen(at)), y: intensity.filter((_, at) => chosen(at)),
    width: widths.filter((_, at) => chosen(at)), offset: 0, customdata: hover.filter((_, at) => chosen(at)),
    hovertemplate: "%{customdata}<extra></extra>", marker: { color, line: { width: 0.5, color: "rgba(255,255,255,.6)" } },
  });
  const data = line
    ? [bar("bound by memory", COLORS.orange, (at) => intensity[at] < line), bar("bound by arithmetic", COLORS.blue, (at) => intensity[at] >= line)]
    : [bar("operations", COLORS.blue, () => true)];
  const water = line
    ? [{ type: "rect", xref: "paper", x0: 0, x1: 1, y0: 0, y1: line, fillcolor: "rgba(86,180,233,.15)", line: { width: 0 }, layer: "below" },
       { type: "line", xref: "paper", x0: 0, x1: 1, y0: line, y1: line, line: { color: COLORS.blue, width: 1.5, dash: "dash" } }]
    : [];
  const layout = {
    barmode: "overlay", height: 300, shapes: water, showlegend: Boolean(line),
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
    xaxis: { title: { text: `bytes moved, ${unit}` }, showgrid: false, dtick: tickDistance(total * scale) },
    yaxis: { title: { text: "operations a byte" }, rangemode: "tozero" },
  };
  return [data, layout, line];
}

function showEfficiency(blocks, times, setting) {
  const found = setting ? efficiencyOf(blocks, times, setting) : null;
  byId("efficiency").hidden = found === null;
  if (!found) return;
  const estimated = setting.source === "estimated" ? " The times are estimated, not measured." : "";
  const peak = setting.peak_gops
    ? `the device's peak of ${digits(setting.peak_gops)} GFLOP/s (${setting.rates_source})`
    : `the fastest block here, ${digits(setting.fastest_gops)} GFLOP/s, because the peak of ${setting.device} is not known (rates in its device.yaml)`;
  byId("gap-caption").textContent =
    `A block is as wide as its time and filled as high as its efficiency against ${peak}: latency = operations / (peak × efficiency). ` +
    `At that rate all arithmetic would take ${milliseconds(found.totalIdeal)} of ${milliseconds(found.total)}: efficiency ${digits((100 * found.totalIdeal) / found.total)} %.${estimated}`;
  drawWhenSeen(byId("gap-figure"), () => draw(byId("gap-figure"), ...gapFigure(blocks, times, found)));
  const [data, layout, line] = waterlineFigure(blocks, setting, found);
  byId("waterline-caption").textContent =
    "A block is as wide as the bytes its layers read and write and as high as its operations a byte, so its area is its operations. " +
    (line
      ? `The waterline, ${digits(line)}, is peak over bandwidth: blocks under it wait for memory.`
      : `There is no waterline, because the peak and the bandwidth of ${setting.device} are not known.`);
  drawWhenSeen(byId("waterline-figure"), () => draw(byId("waterline-figure"), data, layout));
}

function showNetwork(run, search, index, settingNumber) {
  byId("network-id").textContent = search.ids[index];
  networkFacts(run, search, index);
  const stages = search.stages[index];
  const blocks = stages.flat().map((at) => run.blocks[at]);
  const setting = search.settings[settingNumber];
  const known = setting && stages.flat().every((at) => setting.ms[at] !== null);
  const times = known ? stages.flat().map((at) => setting.ms[at]) : null;
  let end = 0;
  const ends = stages.map((stage) => (end += stage.length)).filter((one, at, all) => one > 0 && one !== all[at - 1]);
  byId("network-caption").textContent = `${describeNetwork(run, search, index)}. ` + (times
    ? `Height is width in channels, colour what each block takes on ${setting.setting} (${setting.source === "estimated" ? "estimated from its datasheet" : `${setting.source}, corrected by whole networks`})` +
      (Math.abs(setting.constant_ms) > 0.005 * times.reduce((sum, ms) => sum + ms, 0) ? `; the network as a whole adds ${milliseconds(setting.constant_ms)}.` : ".")
    : "Height is width in channels; this run kept no block times.");
  drawWhenSeen(byId("network-figure"), () => draw(byId("network-figure"), ...networkFigure(blocks, ends, times, setting)));
  showEfficiency(blocks, times, setting);
  byId("export-command").textContent = `nassearch export ${run.path} --pick ${search.ids[index]}`;
}
