// SPDX-License-Identifier: Apache-2.0
// What opens below a row: what was typed, what the result says, and where the configuration differs.

function jobDetails(job) {
  return make("div", { class: "opened" }, make("div", {}, ...overrideBlock(job), ...factBlock(job)), make("div", {}, ...differenceBlock(job)));
}

function overrideBlock(job) {
  const line = job.overrides.join(" ");
  return [
    make("h3", {}, "Overrides"),
    make("pre", { class: "overrides" }, line || "none"),
    make(
      "div", { class: "controls no-print" },
      line ? button("copy", (event) => copyText(line, event.target), { class: "copy" }) : null,
      job.config ? button(view.pinned === job.index ? "unpin" : "pin for comparison", () => pin(job), { class: "pin" }) : null,
    ),
  ];
}

function pin(job) {
  view.pinned = view.pinned === job.index ? null : job.index;
  renderTable();
}

function factBlock(job) {
  const facts = job.facts.map((index) => report.facts[index]);
  if (job.reason) facts.unshift([isDone(job) ? "note" : "reason", job.reason]);
  if (job.hash) facts.push(["configuration", job.hash]);
  if (job.folder !== job.name) facts.push(["folder", job.folder]);
  return [make("dl", {}, ...facts.flatMap(([label, text]) => [make("dt", {}, label), make("dd", {}, text)]))];
}

function differenceBlock(job) {
  if (!job.config) return [make("p", { class: "faint" }, "This job has no configuration.")];
  const pinned = view.pinned === null || view.pinned === job.index ? null : report.jobs[view.pinned];
  const rows = pinned ? pinnedRows(job, pinned) : ownRows(job);
  const heads = ["setting", jobName(job), pinned ? jobName(pinned) : "other jobs"];
  const title = pinned ? `Compared with ${jobName(pinned)} (pinned)` : "Differences between the jobs";
  const table = make(
    "table", { class: "differences" },
    make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", {}, head)))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((text, index) => make("td", {}, ...(index ? [text] : softBreaks(text))))))),
  );
  return [make("h3", {}, title), rows.length ? make("div", { class: "tall" }, table) : make("p", { class: "faint" }, "The configurations are the same."), wholeConfiguration(job)];
}

function ownRows(job) {
  return report.config.varying.map(({ path, values }, index) => {
    const others = values.filter((_, value) => value !== job.config[index]);
    return [path, values[job.config[index]], others.slice(0, 4).join(", ") + (others.length > 4 ? `, and ${others.length - 4} more` : "")];
  });
}

function pinnedRows(job, pinned) {
  const settings = report.config.varying
    .map(({ path, values }, index) => [path, values[job.config[index]], values[pinned.config[index]]])
    .filter(([, own, other]) => own !== other);
  const figures = report.metrics
    .map((metric, index) => [metric.label, metric, job.numbers[index], pinned.numbers[index]])
    .filter(([, , own, other]) => own !== other)
    .map(([label, metric, own, other]) => [label, figure(own, metric.form), figure(other, metric.form)]);
  return [...settings, ...figures];
}

function wholeConfiguration(job) {
  const place = make("pre", {});
  const box = make("details", { class: "whole no-print" }, make("summary", {}, "whole configuration"), place);
  box.addEventListener("toggle", () => {
    if (!box.open || place.textContent) return;
    const own = report.config.varying.map(({ path, values }, index) => [path, values[job.config[index]]]);
    const lines = [...Object.entries(report.config.common), ...own].filter(([, value]) => value !== "(none)");
    place.textContent = lines.map(([path, value]) => `${path}: ${value}`).sort().join("\n");
  });
  return box;
}
