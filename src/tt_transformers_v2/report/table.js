// SPDX-License-Identifier: Apache-2.0
// The table of jobs: sorting, filters, pages, columns, CSV.

const PAGE = 50; // rows at a time; all of thousands would make the page slow
const PRINTED = 2000; // rows on paper at most
const RARE = new Set(["seconds", "tokens_per_s", "reference_perplexity", "next_token_top1", "next_token_top5", "top5"]);
const inOrder = new Intl.Collator("en", { numeric: true });
let rowsPerPage = PAGE;

const columns = [
  { id: "front", head: "★", title: "on the Pareto front of the plot", value: (job) => (shown.front.has(job.index) ? 1 : 0), text: (job) => (shown.front.has(job.index) ? "★" : "") },
  ...(report.sweeps.length > 1 ? [textColumn("sweep", "sweep", (job) => job.sweep)] : []),
  textColumn("job", "job", (job) => job.name),
  ...report.knobs.filter((knob) => knob.key !== "sweep").map((knob) => ({ ...textColumn("knob:" + knob.key, knob.key, (job) => setting(job, knob.key)), path: true })),
  textColumn("status", "status", (job) => job.status),
  ...report.metrics.map((metric, index) => ({
    id: metric.name, head: metric.label, unit: metric.unit, numeric: true, metric,
    title: [metric.label, ...metric.badges, { high: "higher is better", low: "lower is better" }[metric.better]].filter(Boolean).join(", "),
    value: (job) => job.numbers[index],
    text: (job) => figure(job.numbers[index], metric.form),
  })),
  ...report.texts.map((name, index) => textColumn(name, name, (job) => job.texts[index])),
  textColumn("reason", "reason", (job) => job.reason),
  textColumn("hash", "configuration", (job) => job.hash ?? ""),
];

function textColumn(id, head, value) {
  return { id, head, value, text: value, title: head };
}

function chooseColumns() {
  const varied = (index) => new Set(report.jobs.filter(isDone).map((job) => job.texts[index])).size > 1;
  const wanted = (column) => {
    if (column.metric) return !RARE.has(column.id);
    if (textIndex.has(column.id)) return column.id === "bound" || varied(textIndex.get(column.id));
    if (column.id === "status") return !report.jobs.every(isDone);
    if (column.id === "reason") return report.metrics.every((metric) => RARE.has(metric.name));
    return column.id !== "hash";
  };
  view.columns = new Set(columns.filter(wanted).map((column) => column.id));
}

function setUpTable() {
  const search = make("input", {
    type: "search", id: "words", placeholder: "filter: words, kl_divergence<0.05, device=n150", size: 44, "aria-label": "Filter jobs",
    oninput: debounced(() => { view.words = search.value; changedFilter(); }, 80),
  });
  byId("table-controls").append(search, statusMenu(), ...knobMenus(), columnMenu(), button("reset", resetFilters, { id: "reset" }), button("CSV", saveCsv, { id: "csv", title: "download the jobs shown, with all columns" }));
}

function changedFilter() {
  view.page = 0;
  for (const box of document.querySelectorAll("[data-filter]")) box.classList.toggle("active", (view.hidden.get(box.dataset.filter)?.size ?? 0) > 0);
  refresh();
}

function statusMenu() {
  return filterMenu("status", [...new Set(report.jobs.map((job) => job.status))], (value) => report.jobs.filter((job) => job.status === value).length);
}

function knobMenus() {
  return report.knobs
    .filter((knob) => knob.values.length <= MOST_CHOICES)
    .map((knob) => filterMenu(knob.key, knob.values, (value) => report.jobs.filter((job) => setting(job, knob.key) === value).length));
}

function filterMenu(key, values, count) {
  const boxes = values.map((value) =>
    checkbox(`${value} (${count(value)})`, true, (on) => {
      setHidden(key, value, !on);
      changedFilter();
    }, { "data-value": value }),
  );
  const box = menu(`filter-${key}`, key, ...boxes);
  box.dataset.filter = key;
  return box;
}

function columnMenu() {
  const boxes = columns.map((column) =>
    checkbox(column.id === "front" ? "front" : column.head, view.columns.has(column.id), (on) => {
      view.columns[on ? "add" : "delete"](column.id);
      renderTable();
    }),
  );
  return menu("columns", "columns", ...boxes);
}

function resetFilters() {
  view.words = byId("words").value = "";
  view.hidden.clear();
  for (const box of document.querySelectorAll("[data-filter] input")) box.checked = true;
  changedFilter();
}

// Sorted by the chosen column; what is missing comes last either way, ties keep job order.
function sortedJobs() {
  const column = columns.find(({ id }) => id === view.sort.id);
  const way = view.sort.down ? -1 : 1;
  const keyed = shown.jobs.map((job) => [column.value(job), job]);
  keyed.sort(([a, one], [b, other]) => {
    if (isBlank(a) || isBlank(b)) return isBlank(a) - isBlank(b) || one.index - other.index;
    const order = typeof a === "number" ? a - b : inOrder.compare(a, b);
    return way * order || one.index - other.index;
  });
  return keyed.map(([, job]) => job);
}

function isBlank(value) {
  return value == null || value === "" || value === "–";
}

function shownColumns() {
  return columns.filter((column) => view.columns.has(column.id));
}

function renderTable() {
  const jobs = sortedJobs();
  const pages = Math.max(1, Math.ceil(jobs.length / rowsPerPage));
  view.page = Math.min(view.page, pages - 1);
  const rows = jobs.slice(view.page * rowsPerPage, (view.page + 1) * rowsPerPage);
  const visible = shownColumns();
  byId("jobs").tHead.replaceChildren(make("tr", {}, ...visible.map(headCell)));
  byId("jobs").tBodies[0].replaceChildren(...rows.flatMap((job) => jobRows(job, visible)));
  renderShown(jobs.length);
  renderPages(pages);
}

function headCell(column) {
  const sorted = view.sort.id === column.id;
  const order = sorted ? (view.sort.down ? "descending" : "ascending") : "none";
  const head = button("", () => sortBy(column), { title: column.title, "data-column": column.id });
  head.append(...(column.path ? softBreaks(column.head) : [column.head]), make("span", { class: "arrow", "aria-hidden": "true" }, sorted ? (view.sort.down ? " ▼" : " ▲") : ""));
  if (column.unit) head.append(make("span", { class: "unit" }, column.unit));
  return make("th", { "aria-sort": order, scope: "col", class: column.numeric ? "number" : "" }, head);
}

// A dotted path that may be broken after its dots.
function softBreaks(path) {
  return path.split(/(?<=\.)/).flatMap((part, index) => (index ? [make("wbr"), part] : [part]));
}

// The first click puts the best on top, where there is a best.
function sortBy(column) {
  const bestFirst = column.metric?.better === "high" || column.id === "front";
  view.sort = { id: column.id, down: view.sort.id === column.id ? !view.sort.down : bestFirst };
  view.page = 0;
  renderTable();
  document.querySelector(`[data-column="${CSS.escape(column.id)}"]`).focus();
}

function jobRows(job, visible) {
  const isOpen = view.open.has(job.index);
  const figures = visible.findIndex((column) => column.metric || textIndex.has(column.id));
  const saysWhy = !isDone(job) && job.reason && figures >= 0;
  const cells = (saysWhy ? visible.slice(0, figures) : visible).map((column) => {
    const content = column.id === "job" ? jobButton(job, isOpen) : column.id === "status" ? statusMark(job) : column.text(job);
    return make("td", { class: [column.numeric ? "number" : "", column.id].join(" ").trim() }, content);
  });
  if (saysWhy) cells.push(make("td", { class: "reason", colspan: visible.length - figures }, job.reason));
  const marks = [shown.front.has(job.index) ? "on-front" : "", isDone(job) ? "" : "undone", view.pinned === job.index ? "pinned" : ""];
  const row = make("tr", {
    "data-job": job.index, class: marks.filter(Boolean).join(" "),
    onclick: (event) => !event.target.closest("button") && !String(getSelection()) && toggleJob(job),
    onpointerenter: () => ringAround(job),
    onpointerleave: () => ringAround(null),
  }, ...cells);
  return isOpen ? [row, make("tr", { class: "details" }, make("td", { colspan: visible.length }, jobDetails(job)))] : [row];
}

function jobButton(job, isOpen) {
  return button(job.name, () => toggleJob(job), { class: "opener", "aria-expanded": String(isOpen), "aria-label": `details of ${jobName(job)}` });
}

function statusMark(job) {
  const sign = { ok: "✓", failed: "✗", broken: "✗", skipped: "–", duplicate: "=" }[job.status] ?? "…";
  return make("span", { class: `status ${job.status}` }, `${sign} ${job.status}`);
}

function toggleJob(job) {
  if (!view.open.delete(job.index)) view.open.add(job.index);
  renderTable();
  document.querySelector(`tr[data-job="${job.index}"] .opener`)?.focus({ preventScroll: true });
}

// Opens a job wherever in the table it is, and goes there.
function openJob(job) {
  view.open.add(job.index);
  view.page = Math.floor(sortedJobs().indexOf(job) / rowsPerPage);
  renderTable();
  document.querySelector(`tr[data-job="${job.index}"]`).scrollIntoView({ block: "center" });
}

function markRow(job) {
  document.querySelector("tr.pointed")?.classList.remove("pointed");
  if (job) document.querySelector(`tr[data-job="${job.index}"]`)?.classList.add("pointed");
}

function renderShown(count) {
  const front = shown.front.size ? `; ${shown.front.size} on the front of ${axis(view.x).label} and ${axis(view.y).label}` : "";
  byId("shown").textContent = `${count} of ${plural(report.jobs.length, "job")} shown${front}`;
}

function renderPages(pages) {
  const go = (page) => () => {
    view.page = page;
    renderTable();
  };
  const around = [
    button("‹ previous", go(view.page - 1), { disabled: view.page === 0 }),
    make("span", {}, `page ${view.page + 1} of ${pages}`),
    button("next ›", go(view.page + 1), { disabled: view.page === pages - 1 }),
  ];
  byId("pages").replaceChildren(...(pages > 1 ? around : []));
}

function saveCsv() {
  const quoted = (value) => (/[",\n\r]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : String(value));
  const cell = (column, job) => (column.id === "front" ? column.value(job) : (column.value(job) ?? ""));
  const lines = [[...columns.map((column) => (column.id === "front" ? "front" : column.id.replace(/^knob:/, ""))), "overrides"]];
  for (const job of sortedJobs()) lines.push([...columns.map((column) => cell(column, job)), job.overrides.join(" ")]);
  download("jobs.csv", lines.map((line) => line.map(quoted).join(",") + "\n").join(""));
}

// Paper has no pages to turn: every row that passes the filters is printed.
function showAllRows(all) {
  rowsPerPage = all ? PRINTED : PAGE;
  renderTable();
}
