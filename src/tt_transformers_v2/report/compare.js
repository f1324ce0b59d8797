// SPDX-License-Identifier: Apache-2.0
// Two sweeps side by side: a row per job that changed, a column per figure that changed, what got worse first.

const FEW = 40; // rows at first

function renderComparison() {
  const found = report.comparison;
  if (!found) return;
  const rows = found.matches.map(movedRow).filter((row) => row.moved.size || row.status !== "same");
  rows.sort((one, other) => other.worst - one.worst || one.job.index - other.job.index);
  const figures = movedFigures(rows);
  const heads = ["job", ...figures.map((metric) => metric.label), rows.some((row) => row.status !== "same") ? "status" : ""].filter(Boolean);
  const body = make("tbody");
  const onlyWorse = checkbox("only what got worse", false, () => draw(false), { id: "only-worse" });
  const more = button("", () => draw(true));
  const draw = (all) => {
    const wanted = rows.filter((row) => !onlyWorse.firstChild.checked || row.worst > 0);
    body.replaceChildren(...wanted.slice(0, all ? wanted.length : FEW).map((row) => changeRow(row, figures, heads.includes("status"))));
    more.hidden = all || wanted.length <= FEW;
    more.textContent = `show all ${wanted.length}`;
  };
  const table = make("table", { class: "changes" }, make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", {}, head)))), body);
  byId("comparison").replaceChildren(
    make("h2", { id: "comparison-title" }, `${found.after} compared with ${found.before}`),
    comparisonSummary(found, rows),
    unmatched(found.only_before, found.before),
    unmatched(found.only_after, found.after),
    make("div", { class: "controls no-print" }, rows.length ? onlyWorse : null),
    rows.length ? make("div", { class: "scroll" }, table) : make("p", { class: "empty" }, "No figure changed."),
    more,
  );
  draw(false);
  byId("comparison").hidden = false;
}

// What moved in one pair of jobs; `worst` is the largest loss in percent, above 0 where anything got worse.
function movedRow(match) {
  const moved = new Map(match.changes.filter((change) => change.verdict !== "same").map((change) => [change.metric, change]));
  const losses = [...moved.values()].filter((change) => change.verdict === "worse").map((change) => Math.abs(change.percent ?? 1e6));
  if (match.status === "worse") losses.push(1e9);
  const better = match.status === "better" || [...moved.values()].some((change) => change.verdict === "better");
  return { before: report.jobs[match.before], job: report.jobs[match.after], moved, status: match.status, worst: losses.length ? greatest(losses) : 0, better };
}

// Throughput is decode speed times users; beside it, it would say everything twice.
function movedFigures(rows) {
  const names = new Set(rows.flatMap((row) => [...row.moved.keys()]));
  if (names.has("decode_tokens_per_s_per_user")) names.delete("tokens_per_s");
  return report.metrics.filter((metric) => names.has(metric.name));
}

function comparisonSummary(found, rows) {
  const [worse, better] = [rows.filter((row) => row.worst > 0).length, rows.filter((row) => row.better).length];
  return make(
    "p", {},
    `${plural(found.matches.length, "job")} matched ${matchedBy(found.matches)}. Changes of more than ${found.tolerance} %: `,
    make("b", { class: worse ? "worse" : "" }, `▼ ${plural(worse, "job")} worse`), " in at least one figure, ",
    make("b", { class: better ? "better" : "" }, `▲ ${better} better`), " in at least one.",
  );
}

function matchedBy(matches) {
  const typed = matches.filter((match) => match.by === "overrides").length;
  if (!typed) return "by configuration";
  return typed === matches.length ? "by their overrides; their configurations differ" : `(${typed} by their overrides; their configurations differ)`;
}

function unmatched(indexes, sweep) {
  if (!indexes.length) return "";
  const names = indexes.slice(0, 8).map((index) => report.jobs[index].name).join(", ");
  return make("p", { class: "faint" }, `Only in ${sweep}: ${plural(indexes.length, "job")} (${names}${indexes.length > 8 ? ", …" : ""}).`);
}

function changeRow(row, figures, withStatus) {
  const cells = figures.map((metric) => changeCell(row.moved.get(metric.name), metric));
  if (withStatus) cells.push(make("td", { class: row.status }, row.status === "same" ? "" : `${row.before.status} → ${row.job.status}`));
  const own = button(`${row.job.name}: ${settingsText(row.job)}`, () => openJob(row.job), { class: "opener" });
  return make("tr", { class: row.worst > 0 ? "regressed" : "" }, make("td", {}, own), ...cells);
}

function changeCell(change, metric) {
  if (!change) return make("td", { class: "faint" }, "·");
  const sign = { worse: "▼ ", better: "▲ ", changed: "" }[change.verdict];
  const share = change.percent == null ? change.verdict : percentText(change.percent);
  return make(
    "td", {}, make("b", { class: change.verdict }, sign + share),
    make("span", { class: "faint" }, ` ${figure(change.before, metric.form)} → ${figure(change.after, metric.form)}`),
  );
}
