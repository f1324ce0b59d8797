// SPDX-License-Identifier: Apache-2.0
// The data, what is chosen and filtered, and what follows from that.

const report = JSON.parse(byId("data").textContent);
report.jobs.forEach((job, index) => (job.index = index));
const metricIndex = new Map(report.metrics.map((metric, index) => [metric.name, index]));
const knobIndex = new Map(report.knobs.map((knob, index) => [knob.key, index]));
const textIndex = new Map(report.texts.map((name, index) => [name, index]));
const MOST_CHOICES = 40; // values of a knob that get a checkbox each

const view = {
  x: "", y: "", color: "", logX: false, logY: false, bands: false,
  sensitivity: "axes", // the figures of both axes, or one figure by name
  words: "",
  hidden: new Map(), // what is unticked: knob key or "status" -> set of values
  columns: new Set(),
  sort: { id: "job", down: false },
  page: 0,
  open: new Set(),
  pinned: null,
};

// What can be an axis: every metric, and the knobs whose values are numbers.
const axes = [
  ...report.metrics.map((metric, index) => ({
    id: metric.name,
    label: metric.label,
    unit: metric.unit,
    better: metric.better,
    form: metric.form,
    badges: metric.badges,
    value: (job) => job.numbers[index],
    band: (job) => job.bands[index],
  })),
  ...report.knobs.filter(isNumeric).map((knob) => ({
    id: "knob:" + knob.key,
    label: knob.key,
    unit: "",
    better: "",
    form: "number",
    badges: [],
    value: (job) => toNumber(setting(job, knob.key)),
    band: () => null,
  })),
];

function isNumeric(knob) {
  return knob.values.every((value) => toNumber(value) !== null);
}

function toNumber(text) {
  const value = text.trim() === "" ? NaN : Number(text);
  return Number.isFinite(value) ? value : null;
}

function axis(id) {
  return axes.find((entry) => entry.id === id);
}

function setting(job, key) {
  return job.settings[knobIndex.get(key)];
}

function number(job, name) {
  const index = metricIndex.get(name);
  return index === undefined ? null : job.numbers[index];
}

function isDone(job) {
  return job.status === "ok";
}

// What tells a job from the others of its sweep.
function settingsText(job) {
  const parts = job.settings.filter((value, index) => report.knobs[index].key !== "sweep");
  return parts.join(" · ") || jobName(job);
}

function jobName(job) {
  return report.sweeps.length > 1 ? `${job.sweep} job ${job.name}` : `job ${job.name}`;
}

function chooseAxes() {
  const first = (...names) => names.find((name) => metricIndex.has(name) && metricIndex.get(name) >= 0);
  view.x = first("measured_decode_tokens_per_s_per_user", "decode_tokens_per_s_per_user") ?? axes[0]?.id ?? "";
  view.y = first("kl_divergence", "top1", "pcc", "ttft_ms") ?? axes.find((entry) => entry.id !== view.x)?.id ?? view.x;
  view.color = (report.knobs.find((knob) => knob.values.length <= MOST_CHOICES) ?? { key: "" }).key;
  view.logX = spansDecades(view.x);
  view.logY = spansDecades(view.y);
}

function spansDecades(id) {
  const values = report.jobs.map((job) => axis(id)?.value(job)).filter((value) => value != null);
  return values.length > 1 && least(values) > 0 && greatest(values) / least(values) > 12;
}

// Math.min(...values) fails on very many values.
function least(values) {
  return values.reduce((one, other) => Math.min(one, other), Infinity);
}

function greatest(values) {
  return values.reduce((one, other) => Math.max(one, other), -Infinity);
}

// The Pareto front, as pareto.py computes it: indexes of the points [x, y] that no other point beats in one figure
// without losing in the other. `better` is "high" or "low" for each; points that lack a figure are left out.
function paretoFront(points, better) {
  const signs = better.map((way) => (way === "high" ? -1 : 1));
  const costs = points
    .map(([x, y], index) => [x == null ? null : signs[0] * x, y == null ? null : signs[1] * y, index])
    .filter(([x, y]) => x !== null && y !== null)
    .sort((one, other) => one[0] - other[0] || one[1] - other[1] || one[2] - other[2]);
  const found = [];
  let best = null;
  for (const [x, y, index] of costs) {
    if (best === null || y < best[1] || (x === best[0] && y === best[1])) {
      best = [x, y];
      found.push(index);
    }
  }
  return found.sort((one, other) => one - other);
}

const COMPARE = {
  "<": (a, b) => a < b,
  "<=": (a, b) => a <= b,
  ">": (a, b) => a > b,
  ">=": (a, b) => a >= b,
  "=": (a, b) => a === b,
  "!=": (a, b) => a !== b,
};

// One word of the filter as a test on a job: `kl_divergence<0.05`, `device=n150`, or any text.
function wordTest(word) {
  const [, name, sign, value] = /^([^<>=!]+)(<=|>=|!=|=|<|>)(.+)$/.exec(word) ?? [];
  if (metricIndex.has(name) && toNumber(value) !== null) {
    return (job) => number(job, name) !== null && COMPARE[sign](number(job, name), toNumber(value));
  }
  const said = wordsOf(name);
  if (said && (sign === "=" || sign === "!=")) return (job) => COMPARE[sign](said(job), value);
  const wanted = word.toLowerCase();
  return (job) => haystack(job).includes(wanted);
}

// The text that `name` stands for in a job, as a function; null for an unknown name.
function wordsOf(name) {
  if (knobIndex.has(name)) return (job) => setting(job, name);
  if (textIndex.has(name)) return (job) => job.texts[textIndex.get(name)];
  return name === "status" ? (job) => job.status : null;
}

function haystack(job) {
  job.haystack ??= [job.name, job.folder, job.sweep, job.status, job.reason, job.hash, ...job.overrides, ...job.texts]
    .join(" ")
    .toLowerCase();
  return job.haystack;
}

function isHidden(key, value) {
  return view.hidden.get(key)?.has(value) ?? false;
}

function setHidden(key, value, hide) {
  if (!view.hidden.has(key)) view.hidden.set(key, new Set());
  view.hidden.get(key)[hide ? "add" : "delete"](value);
}

// The jobs that pass every filter, in their own order.
function filteredJobs() {
  const tests = view.words.split(/\s+/).filter(Boolean).map(wordTest);
  return report.jobs.filter(
    (job) =>
      !isHidden("status", job.status) &&
      report.knobs.every((knob, index) => !isHidden(knob.key, job.settings[index])) &&
      tests.every((test) => test(job)),
  );
}

// What is shown now, computed once per change: jobs, those with a point, and the indexes of jobs on the front.
const shown = { jobs: [], points: [], front: new Set() };

function refreshShown() {
  const [x, y] = [axis(view.x), axis(view.y)];
  shown.jobs = filteredJobs();
  shown.points = x && y ? shown.jobs.filter((job) => isDone(job) && x.value(job) != null && y.value(job) != null) : [];
  const judged = x?.better && y?.better && x !== y;
  const points = judged ? shown.points.map((job) => [x.value(job), y.value(job)]) : [];
  shown.front = new Set(paretoFront(points, [x?.better, y?.better]).map((index) => shown.points[index].index));
}
