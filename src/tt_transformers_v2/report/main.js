// SPDX-License-Identifier: Apache-2.0
// Puts the page together.

function refresh() {
  refreshShown();
  if (shownCharts()) {
    renderSensitivity();
    renderPlot();
  }
  renderTable();
}

function shownCharts() {
  return !byId("charts").hidden;
}

function renderHeader() {
  document.title = `${report.title}: report`;
  byId("kind").textContent = report.comparison ? "Comparison of two sweeps" : report.sweeps.length > 1 ? "Report on several sweeps" : "Sweep report";
  byId("title").textContent = report.title;
  const versions = [...new Set(report.sweeps.flatMap((sweep) => sweep.environments.map(versionText)))];
  const revisions = [...new Set(report.sweeps.flatMap((sweep) => sweep.git.map(gitText)))];
  const when = [...new Set(report.sweeps.map((sweep) => sweep.when).filter(Boolean))];
  byId("subtitle").textContent = [when.join(", "), ...revisions, ...versions].filter(Boolean).join(" · ");
}

function gitText(git) {
  return `git ${git.revision.slice(0, 10)}${git.dirty ? " with uncommitted changes" : ""}`;
}

function versionText(environment) {
  const names = { "tt-transformers-v2": "tt-transformers-v2", ttnn: "ttnn", python: "Python" };
  return Object.entries(names).filter(([key]) => environment[key]).map(([key, name]) => `${name} ${environment[key]}`).join(", ");
}

function renderTiles() {
  const count = (status) => report.jobs.filter((job) => job.status === status).length;
  const others = [...new Set(report.jobs.map((job) => job.status))].filter((status) => status !== "ok");
  const tiles = [tile("jobs finished", `${count("ok")}`, `of ${report.jobs.length}`, others.map((status) => `${count(status)} ${status}`).join(", ") || "none failed")];
  for (const name of ["measured_decode_tokens_per_s_per_user", "decode_tokens_per_s_per_user", "ttft_ms", "kl_divergence", "top1"]) {
    if (metricIndex.has(name)) tiles.push(bestTile(report.metrics[metricIndex.get(name)]));
  }
  byId("tiles").replaceChildren(...tiles.filter(Boolean));
}

function tile(label, value, unit, about) {
  return make(
    "div", { class: "tile" },
    make("div", { class: "faint small" }, label),
    make("div", { class: "value" }, value, make("span", { class: "faint" }, ` ${unit}`)),
    make("div", { class: "faint small about", title: about }, about),
  );
}

function bestTile(metric) {
  const jobs = report.jobs.filter((job) => isDone(job) && number(job, metric.name) !== null);
  if (!jobs.length) return null;
  const sign = metric.better === "high" ? 1 : -1;
  const best = jobs.reduce((one, other) => (sign * number(other, metric.name) > sign * number(one, metric.name) ? other : one));
  const alike = jobs.filter((job) => number(job, metric.name) === number(best, metric.name)).length;
  const whose = alike > 1 ? `${alike} of ${plural(jobs.length, "job")} tied` : settingsText(best);
  const kind = metric.badges.length ? `, ${metric.badges.join(" or ")}` : "";
  return tile(`best ${metric.label}${kind}`, figure(number(best, metric.name), metric.form), metric.unit, whose);
}

function renderBases() {
  const lines = report.bases.map(([group, text, badges]) =>
    make("p", {}, ...badges.map((badge) => make("span", { class: "badge" }, badge)), make("b", {}, `${group} `), text),
  );
  const held = report.held.length ? make("p", {}, make("b", {}, "all jobs "), make("code", {}, report.held.join(" "))) : null;
  byId("bases").replaceChildren(...lines, held ?? "");
  byId("bases").hidden = !byId("bases").textContent;
}

function renderWarnings() {
  byId("warnings").replaceChildren(...report.warnings.map((text) => make("p", {}, `⚠ ${text}`)));
  byId("warnings").hidden = !report.warnings.length;
}

function renderWhere() {
  const rows = report.sweeps.map((sweep) => {
    const environments = sweep.environments.map((environment) => Object.entries(environment).map(([name, version]) => `${name} ${version}`).join(", "));
    return make(
      "dl", {},
      ...[["sweep", `${sweep.name}, ${plural(sweep.jobs, "job")}`], ...(sweep.command ? [["command", sweep.command]] : []), ["when", sweep.when || "unknown"], ...sweep.git.map((git) => ["git", `${git.revision}${git.dirty ? ", with uncommitted changes" : ", clean"}`]), ...environments.map((text) => ["environment", text])].flatMap(([label, text]) => [make("dt", {}, label), make("dd", {}, text)]),
    );
  });
  byId("where").replaceChildren(...rows);
}

// The reader's own choice wins over the system's and is kept where the browser keeps anything for local files.
function setUpTheme() {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const label = () => (byId("theme").textContent = isDark() ? "☀ light" : "☾ dark");
  try {
    const kept = localStorage.getItem("report-theme");
    if (kept) document.documentElement.dataset.theme = kept;
  } catch { /* no storage: the system's theme */ }
  byId("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    label();
    try {
      localStorage.setItem("report-theme", document.documentElement.dataset.theme);
    } catch { /* not kept */ }
  });
  system.addEventListener("change", label);
  label();
}

setUpTheme();
chooseAxes();
chooseColumns();
renderHeader();
renderTiles();
renderBases();
renderWarnings();
renderWhere();
renderComparison();
byId("charts").hidden = !report.jobs.some(isDone) || !report.metrics.length;
if (shownCharts()) {
  setUpPlot();
  setUpSensitivity();
}
setUpTable();
refresh();
addEventListener("beforeprint", () => showAllRows(true));
addEventListener("afterprint", () => showAllRows(false));
