// SPDX-License-Identifier: Apache-2.0
// The scatter of two figures, with the Pareto front of what is shown.

const PLOT = { height: 430, tallest: 680, left: 74, right: 24, top: 18, bottom: 52, reach: 28, labels: 12 };
const SHAPES = 5;
let plotted = []; // {job, x, y} in pixels, from left to right
let current = -1; // index into plotted of the point under the pointer or the keyboard's focus

function setUpPlot() {
  const choices = axes.map((entry) => [entry.id, entry.unit ? `${entry.label}, ${entry.unit}` : entry.label]);
  const colors = [["", "nothing"], ...report.knobs.filter((knob) => knob.values.length <= MOST_CHOICES).map((k) => [k.key, k.key])];
  const logX = checkbox("log", view.logX, (on) => { view.logX = on; renderPlot(); }, { id: "log-x" });
  const logY = checkbox("log", view.logY, (on) => { view.logY = on; renderPlot(); }, { id: "log-y" });
  const choose = (name, log) => (value) => {
    view[name] = value;
    view[log.key] = log.box.querySelector("input").checked = spansDecades(value);
    refresh();
  };
  byId("plot-controls").append(
    select("x axis", "axis-x", choices, view.x, choose("x", { key: "logX", box: logX })), logX,
    select("y axis", "axis-y", choices, view.y, choose("y", { key: "logY", box: logY })), logY,
    select("colour by", "color-by", colors, view.color, (value) => { view.color = value; renderPlot(); }),
  );
  if (report.jobs.some((job) => job.bands.some((band) => band != null))) {
    byId("plot-controls").append(
      checkbox("confidence bands", view.bands, (on) => { view.bands = on; renderPlot(); }, { id: "bands" }),
    );
  }
  let width = byId("plot").clientWidth;
  const resized = debounced(() => {
    if (byId("plot").clientWidth === width) return;
    width = byId("plot").clientWidth;
    renderPlot();
  }, 50);
  new ResizeObserver(resized).observe(byId("plot"));
}

function renderPlot() {
  const place = byId("plot");
  hideTooltip();
  const [x, y] = [axis(view.x), axis(view.y)];
  if (!shown.points.length) {
    const why = shown.jobs.some(isDone) ? "No job shown has both figures." : "No finished job to show.";
    place.replaceChildren(make("p", { class: "empty" }, why));
    byId("legend").replaceChildren();
    return;
  }
  const width = Math.max(420, Math.round(place.clientWidth));
  PLOT.height = plotHeight();
  const scaleX = makeScale(shown.points.map(x.value), view.logX, PLOT.left, width - PLOT.right);
  const scaleY = makeScale(shown.points.map(y.value), view.logY, PLOT.height - PLOT.bottom, PLOT.top);
  plotted = shown.points
    .map((job) => ({ job, x: scaleX.at(x.value(job)), y: scaleY.at(y.value(job)) }))
    .sort((one, other) => one.x - other.x || one.y - other.y);
  current = -1;
  const picture = makeSvg(
    "svg",
    {
      viewBox: `0 0 ${width} ${PLOT.height}`, role: "img", tabindex: 0,
      "aria-label": `${axisTitle(y)} against ${axisTitle(x)}; ${plural(plotted.length, "job")}, ` +
        `${shown.front.size} on the front. Arrow keys move between points, Enter opens one.`,
    },
    ...drawAxes(scaleX, scaleY, width, x, y),
    ...drawFront(),
    ...(view.bands ? drawBands(x, y, scaleX, scaleY) : []),
    ...drawMarkers(),
    ...drawLabels(width),
    makeSvg("circle", { id: "ring", r: 11, visibility: "hidden" }),
  );
  listen(picture);
  place.replaceChildren(picture);
  renderLegend();
}

// As tall as the panel beside it, within reason.
function plotHeight() {
  const [own, beside] = [byId("plot").parentElement, byId("sensitivity")];
  if (own.offsetTop !== beside.parentElement.offsetTop) return 430;
  const room = beside.offsetTop + beside.offsetHeight - byId("plot").offsetTop - byId("legend").offsetHeight - 8;
  return Math.max(430, Math.min(PLOT.tallest, Math.round(room)));
}

function axisTitle(entry) {
  const way = { high: " (higher is better)", low: " (lower is better)" }[entry.better] ?? "";
  const kind = entry.badges.length ? `, ${entry.badges.join(" or ")}` : "";
  return `${entry.label}${entry.unit ? `, ${entry.unit}` : ""}${kind}${way}`;
}

// Maps values to pixels from `from` to `to`, with ticks at round values; logarithmic where asked for and possible.
function makeScale(values, wantsLog, from, to) {
  let [low, high] = [least(values), greatest(values)];
  const log = wantsLog && low > 0;
  if (low === high) [low, high] = log ? [low / 2, high * 2] : [low - (Math.abs(low) * 0.1 || 1), high + (Math.abs(high) * 0.1 || 1)];
  const change = log ? Math.log10 : (value) => value;
  const margin = (change(high) - change(low)) * 0.06;
  const [start, end] = [change(low) - margin, change(high) + margin];
  const at = (value) => from + ((change(value) - start) / (end - start)) * (to - from);
  const ticks = log ? logTicks(start, end) : linearTicks(start, end);
  return { at, ticks, inside: (value) => (log ? value > 0 : true) };
}

function linearTicks(low, high) {
  const rough = (high - low) / 6;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) + (step / power === 2.5 ? 1 : 0);
  const ticks = [];
  for (let i = Math.ceil(low / step); i * step <= high; i++) {
    ticks.push({ value: i * step, text: (i * step).toFixed(Math.min(digits, 8)).replace("-", "−") });
  }
  return ticks;
}

function logTicks(start, end) {
  const ticks = [];
  const factors = end - start > 3 ? [1] : end - start > 0.9 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 8];
  for (let power = Math.floor(start); power <= Math.ceil(end); power++) {
    for (const factor of factors) {
      const value = factor * 10 ** power;
      if (Math.log10(value) >= start && Math.log10(value) <= end) ticks.push({ value, text: String(Number(value.toPrecision(3))) });
    }
  }
  return ticks;
}

function drawAxes(scaleX, scaleY, width, x, y) {
  const [left, right, bottom] = [PLOT.left, width - PLOT.right, PLOT.height - PLOT.bottom];
  const lines = [];
  for (const tick of scaleX.ticks) {
    const at = scaleX.at(tick.value);
    lines.push(makeSvg("line", { class: "grid", x1: at, x2: at, y1: PLOT.top, y2: bottom }));
    lines.push(makeSvg("text", { class: "tick", x: at, y: bottom + 18, "text-anchor": "middle" }, tick.text));
  }
  for (const tick of scaleY.ticks) {
    const at = scaleY.at(tick.value);
    lines.push(makeSvg("line", { class: "grid", x1: left, x2: right, y1: at, y2: at }));
    lines.push(makeSvg("text", { class: "tick", x: left - 8, y: at + 4, "text-anchor": "end" }, tick.text));
  }
  const middle = (PLOT.top + bottom) / 2;
  lines.push(makeSvg("path", { class: "axis", d: `M${left} ${PLOT.top}V${bottom}H${right}` }));
  lines.push(makeSvg("text", { class: "axis-title", x: (left + right) / 2, y: PLOT.height - 10, "text-anchor": "middle" }, axisTitle(x)));
  lines.push(
    makeSvg("text", { class: "axis-title", x: 0, y: 0, "text-anchor": "middle", transform: `translate(16 ${middle}) rotate(-90)` }, axisTitle(y)),
  );
  return lines;
}

// The best that can be had: a staircase through the front, drawn on the side where nothing is better.
function drawFront() {
  const lines = stairs(frontPoints());
  const line = lines.map(([, [x, y]]) => `L${x} ${y}`).join("");
  return lines.length ? [makeSvg("path", { class: "front", d: `M${lines[0][0].join(" ")}${line}` })] : [];
}

function frontPoints() {
  return plotted.filter(({ job }) => shown.front.has(job.index));
}

// The lines of the staircase, two from each point to the next, as pairs of ends.
function stairs(points) {
  const upFirst = axis(view.x).better === "high";
  return points.slice(1).flatMap((to, index) => {
    const from = points[index];
    const corner = upFirst ? [from.x, to.y] : [to.x, from.y];
    return [[[from.x, from.y], corner], [corner, [to.x, to.y]]];
  });
}

function drawBands(x, y, scaleX, scaleY) {
  const ends = (value, band, scale) => [value * (1 - band / 100), value * (1 + band / 100)].map((v) => (scale.inside(v) ? scale.at(v) : scale.at(value)));
  const parts = [];
  for (const point of plotted) {
    const [bandX, bandY] = [x.band(point.job), y.band(point.job)];
    if (bandX != null) {
      const [from, to] = ends(x.value(point.job), bandX, scaleX);
      parts.push(`M${from} ${point.y}H${to}`);
    }
    if (bandY != null) {
      const [from, to] = ends(y.value(point.job), bandY, scaleY);
      parts.push(`M${point.x} ${from}V${to}`);
    }
  }
  return [makeSvg("path", { class: "bands", d: parts.join("") })];
}

const OUTLINES = [
  (r) => `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`,
  (r) => `M${-r * 0.88} ${-r * 0.88}h${r * 1.76}v${r * 1.76}h${-r * 1.76}z`,
  (r) => `M0 ${-r * 1.2}L${r * 1.1} ${r * 0.8}H${-r * 1.1}z`,
  (r) => `M0 ${-r * 1.25}L${r * 1.1} 0L0 ${r * 1.25}L${-r * 1.1} 0z`,
  (r) => `M0 ${r * 1.2}L${r * 1.1} ${-r * 0.8}H${-r * 1.1}z`,
];

// Colours repeat after eight values and shapes after five, so forty values can be told apart, without colour up to five.
function marker(rank, radius, attributes) {
  return makeSvg("path", { d: OUTLINES[rank % SHAPES](radius), ...attributes, class: `marker c${rank % 8} ${attributes.class ?? ""}` });
}

function colorRank(job) {
  const knob = report.knobs[knobIndex.get(view.color)];
  return knob ? Math.max(0, knob.values.indexOf(setting(job, knob.key))) : 0;
}

function drawMarkers() {
  const radius = plotted.length > 1500 ? 3 : plotted.length > 300 ? 4 : 5.5;
  const first = plotted.filter(({ job }) => !shown.front.has(job.index));
  const last = plotted.filter(({ job }) => shown.front.has(job.index));
  return [...first, ...last].map(({ job, x, y }) => {
    const onFront = shown.front.has(job.index);
    return marker(colorRank(job), onFront ? radius + 1.5 : radius, {
      class: onFront ? "on-front" : plotted.length > 300 ? "dense" : "", transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`, "data-job": job.index,
    });
  });
}

// Names the points of the front where there is room.
function drawLabels(width) {
  const front = frontPoints();
  if (!front.length || front.length > PLOT.labels) return [];
  const taken = plotted.length > 400 ? [] : plotted.map(({ x, y }) => [x - 6, y - 6, x + 6, y + 6]);
  taken.push(...stairs(front).map(([[x1, y1], [x2, y2]]) => [Math.min(x1, x2) - 1, Math.min(y1, y2) - 1, Math.max(x1, x2) + 1, Math.max(y1, y2) + 1]));
  const labels = [];
  for (const { job, x, y } of front) {
    const text = settingsText(job);
    const wide = text.length * 6.1;
    if (!text || text.length > 46) continue;
    const spots = [[x + 11, y + 4, "start"], [x - 11, y + 4, "end"], [x, y - 12, "middle"], [x, y + 20, "middle"], [x + 9, y - 9, "start"], [x - 9, y + 16, "end"]];
    for (const [at, base, anchor] of spots) {
      const from = at - { start: 0, middle: wide / 2, end: wide }[anchor];
      const box = [from, base - 10, from + wide, base + 3];
      const fits = box[0] > PLOT.left && box[2] < width - 4 && box[1] > 2 && box[3] < PLOT.height - PLOT.bottom - 2;
      if (!fits || taken.some((other) => overlaps(box, other))) continue;
      taken.push(box);
      labels.push(makeSvg("text", { class: "label", x: at, y: base, "text-anchor": anchor }, text));
      break;
    }
  }
  return labels;
}

function overlaps(one, other) {
  return one[0] < other[2] && other[0] < one[2] && one[1] < other[3] && other[1] < one[3];
}

function renderLegend() {
  const knob = report.knobs[knobIndex.get(view.color)];
  const seen = new Set(plotted.map(({ job }) => (knob ? setting(job, knob.key) : "")));
  const entries = (knob?.values ?? []).map((value, rank) => [value, rank]).filter(([value]) => seen.has(value));
  const items = entries.map(([value, rank]) => make("li", {}, makeSvg("svg", { viewBox: "-8 -8 16 16", width: 16, height: 16 }, marker(rank, 5.5, {})), value));
  if (shown.front.size > 1) {
    const line = makeSvg("path", { class: "front", d: "M0 13V8H11V3H22" });
    items.push(make("li", {}, makeSvg("svg", { viewBox: "0 0 22 16", width: 22, height: 16 }, line), "front: no point shown is better in both"));
  }
  byId("legend").replaceChildren(...(knob ? [make("li", { class: "faint" }, knob.key)] : []), ...items);
}

function listen(picture) {
  picture.addEventListener("pointermove", (event) => {
    const box = picture.getBoundingClientRect();
    const scale = picture.viewBox.baseVal.width / box.width;
    showPoint(nearest((event.clientX - box.left) * scale, (event.clientY - box.top) * scale));
  });
  picture.addEventListener("pointerleave", () => showPoint(-1));
  picture.addEventListener("blur", () => showPoint(-1));
  picture.addEventListener("click", () => current >= 0 && openJob(plotted[current].job));
  picture.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step) showPoint((current + step + plotted.length + (current < 0 && step < 0 ? 1 : 0)) % plotted.length);
    else if (event.key === "Enter" && current >= 0) openJob(plotted[current].job);
    else if (event.key === "Escape") showPoint(-1);
    else return;
    event.preventDefault();
  });
}

function nearest(x, y) {
  let [found, distance] = [-1, PLOT.reach ** 2];
  plotted.forEach((point, index) => {
    const away = (point.x - x) ** 2 + (point.y - y) ** 2;
    if (away < distance) [found, distance] = [index, away];
  });
  return found;
}

// Marks one point, with its tooltip and its row; -1 for none.
function showPoint(index) {
  if (index === current) return;
  current = index;
  if (index < 0) {
    hideTooltip();
    return;
  }
  ringAround(plotted[index].job);
  markRow(plotted[index].job);
  showTooltip(plotted[index]);
}

function ringAround(job) {
  const point = plotted.find((entry) => entry.job === job);
  const ring = byId("ring");
  if (!ring) return;
  ring.setAttribute("visibility", point ? "visible" : "hidden");
  if (point) ring.setAttribute("transform", `translate(${point.x} ${point.y})`);
}

function hideTooltip() {
  current = -1;
  byId("tooltip").hidden = true;
  byId("ring")?.setAttribute("visibility", "hidden");
  markRow(null);
}

function showTooltip(point) {
  const { job } = point;
  const tip = byId("tooltip");
  const lines = [view.x, view.y].filter((id, index, all) => all.indexOf(id) === index).map((id) => figureLine(axis(id), job));
  const here = plotted.filter((other) => Math.hypot(other.x - point.x, other.y - point.y) < 1.5).length - 1;
  tip.replaceChildren(
    make("strong", {}, jobName(job) + (shown.front.has(job.index) ? ", on the front" : "")),
    ...report.knobs.map((knob, index) => make("div", {}, make("span", { class: "faint" }, `${knob.key} `), job.settings[index])),
    ...lines,
    here ? make("div", { class: "faint" }, `${here} more at this spot`) : "",
  );
  tip.hidden = false;
  const picture = byId("plot").firstChild;
  const scale = picture.getBoundingClientRect().width / picture.viewBox.baseVal.width;
  const [x, y] = [byId("plot").offsetLeft + point.x * scale, byId("plot").offsetTop + point.y * scale];
  const room = byId("plot").offsetLeft + byId("plot").clientWidth;
  tip.style.left = `${x + 18 + tip.offsetWidth > room ? Math.max(0, x - tip.offsetWidth - 18) : x + 18}px`;
  tip.style.top = `${Math.max(0, y - tip.offsetHeight / 2)}px`;
}

function figureLine(entry, job) {
  const band = entry.band(job);
  const trust = band == null ? "" : ` ±${band} %`;
  return make(
    "div", {}, make("span", { class: "faint" }, `${entry.label} `),
    make("b", {}, figure(entry.value(job), entry.form)), ` ${entry.unit}${trust} `,
    entry.badges.length ? make("span", { class: "faint" }, entry.badges.join(" or ")) : null,
  );
}
