// SPDX-License-Identifier: Apache-2.0
// What changing one knob does to a figure, all other knobs equal.

const BOTH_AXES = "axes";

function setUpSensitivity() {
  const choices = [[BOTH_AXES, "both axes"], ...report.metrics.map((metric) => [metric.name, metric.label])];
  byId("sensitivity-controls").append(
    select("figure", "sensitivity-of", choices, view.sensitivity, (name) => {
      view.sensitivity = name;
      renderSensitivity();
    }),
  );
}

function renderSensitivity() {
  const names = view.sensitivity === BOTH_AXES ? [...new Set([view.y, view.x])] : [view.sensitivity];
  const metrics = names.filter((name) => metricIndex.has(name)).map((name) => report.metrics[metricIndex.get(name)]);
  byId("sensitivity-about").textContent = Object.keys(report.sensitivity).length
    ? "Mean change from each knob's first value, over pairs of jobs that agree in all other knobs. The thin line shows the " +
      "range over the pairs. All finished jobs count, filtered or not."
    : "No knob has several values among the finished jobs.";
  byId("sensitivity").replaceChildren(...metrics.map(metricTable));
}

// One table per figure: its knobs from the strongest to the weakest.
function metricTable(metric) {
  const knobs = Object.keys(report.sensitivity).map((key) => ({ key, effects: report.sensitivity[key][metric.name] }));
  const ends = knobs.flatMap(({ effects }) => effects.flatMap((effect) => [effect.difference, effect.low, effect.high]));
  const most = greatest(ends.map((value) => Math.abs(value ?? 0)));
  knobs.sort((one, other) => strength(other.effects) - strength(one.effects));
  if (!knobs.length) return "";
  const caption = make("caption", {}, metric.label, make("span", { class: "faint" }, metric.unit ? ` ${metric.unit}` : ""));
  return make("table", { class: "effects", "data-metric": metric.name }, caption, ...knobs.map(({ key, effects }) => knobRows(key, effects, metric, most)));
}

function strength(effects) {
  return greatest(effects.map((effect) => Math.abs(effect.difference ?? 0)));
}

function knobRows(key, effects, metric, most) {
  const head = make("tr", {}, make("th", { class: "knob", colspan: 4, scope: "rowgroup" }, ...softBreaks(key)));
  return make("tbody", { "data-knob": key }, head, ...effects.map((effect, index) => effectRow(effect, index === 0, metric, most)));
}

function effectRow(effect, isFirst, metric, most) {
  const mean = effect.mean == null ? "no figure" : `mean ${figure(effect.mean, metric.form)}`;
  const span = `${figure(effect.low, metric.form, true)} to ${figure(effect.high, metric.form, true)}`;
  const title = `${mean} ${metric.unit} over ${plural(effect.jobs, "job")}` + (effect.pairs ? `; pairs range from ${span}` : "");
  const verdict = verdictOf(effect.difference, metric.better);
  return make(
    "tr", { title },
    make("th", { scope: "row" }, effect.value),
    make("td", {}, bar(effect, verdict, most)),
    effect.pairs ? make("td", { class: `said ${verdict}` }, differenceText(effect, metric)) : make("td", { class: "said faint" }, mean),
    make("td", { class: "faint n" }, effect.pairs ? plural(effect.pairs, "pair") : isFirst ? plural(effect.jobs, "job") : "no pair"),
  );
}

function differenceText(effect, metric) {
  const relative = effect.percent == null || metric.form !== "number" ? "" : ` (${percentText(effect.percent)})`;
  return figure(effect.difference, metric.form, true) + relative;
}

function verdictOf(difference, better) {
  if (!difference || !better) return "";
  return difference > 0 === (better === "high") ? "better" : "worse";
}

// A bar from the middle, to the right for more and to the left for less.
function bar({ difference, low, high }, verdict, most) {
  const [middle, half] = [56, 52];
  const at = (value) => middle + (most ? ((value ?? 0) / most) * half : 0);
  return makeSvg(
    "svg", { class: "bar", viewBox: "0 0 112 16", width: 112, height: 16, "aria-hidden": "true" },
    makeSvg("line", { class: "axis", x1: middle, x2: middle, y1: 0, y2: 16 }),
    makeSvg("rect", { class: `fill ${verdict}`, x: Math.min(middle, at(difference)), width: Math.abs(at(difference) - middle), y: 3, height: 10, rx: 1.5 }),
    makeSvg("line", { class: "whisker", x1: at(low), x2: at(high), y1: 8, y2: 8 }),
  );
}
