// SPDX-License-Identifier: Apache-2.0
// Small helpers. All text goes in through textContent: nothing from a result is ever read as HTML.
"use strict";

const SVG = "http://www.w3.org/2000/svg";

// An element with attributes and children; `on...` attributes are listeners, true and false set or leave out a flag.
function make(tag, attributes = {}, ...children) {
  return dress(document.createElement(tag), attributes, children);
}

function makeSvg(tag, attributes = {}, ...children) {
  return dress(document.createElementNS(SVG, tag), attributes, children);
}

function dress(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

function byId(id) {
  return document.getElementById(id);
}

function button(text, onclick, attributes = {}) {
  return make("button", { type: "button", onclick, ...attributes }, text);
}

// A labelled select over [value, text] pairs.
function select(label, id, choices, chosen, onchoice) {
  const options = choices.map(([value, text]) => make("option", { value, selected: value === chosen }, text));
  const field = make("select", { id, onchange: () => onchoice(field.value) }, ...options);
  return make("label", {}, make("span", {}, label), field);
}

function checkbox(label, checked, onchange, attributes = {}) {
  const box = make("input", { type: "checkbox", checked, ...attributes, onchange: () => onchange(box.checked) });
  return make("label", { class: "check" }, box, label);
}

// A button that opens a panel below it.
function menu(id, title, ...content) {
  return make("details", { class: "menu", id }, make("summary", {}, title), make("div", { class: "panel" }, ...content));
}

document.addEventListener("click", (event) => {
  for (const open of document.querySelectorAll("details.menu[open]")) {
    if (!open.contains(event.target)) open.open = false;
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const open of document.querySelectorAll("details.menu[open]")) {
    open.open = false;
    open.querySelector("summary").focus();
  }
});

// A figure of a metric for people, without its unit; `signed` for differences.
function figure(value, form, signed = false) {
  if (value == null) return "–";
  const sign = signed && value > 0 ? "+" : "";
  if (form === "percent") return sign + (100 * value).toFixed(1).replace("-", "−") + " %";
  return sign + (form === "correlation" ? value.toFixed(5) : significant(value)).replace("-", "−");
}

function significant(value) {
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 1e6 || size < 1e-4) return value.toExponential(2);
  if (size >= 1000) return value.toFixed(0);
  return value.toFixed(size >= 100 ? 1 : size >= 10 ? 2 : size >= 1 ? 3 : 3 - Math.ceil(Math.log10(size)));
}

function percentText(value) {
  return (value > 0 ? "+" : "") + value.toFixed(Math.abs(value) < 10 ? 1 : 0).replace("-", "−") + " %";
}

function plural(count, word) {
  return `${count} ${word}${count === 1 ? "" : "s"}`;
}

// `work` once nothing has called again for `wait` milliseconds.
function debounced(work, wait) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(work, wait);
  };
}

async function copyText(text, source) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Browsers that keep the clipboard from local files still copy a selection.
    const field = make("textarea", {}, text);
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  const before = source.textContent;
  source.textContent = "copied";
  setTimeout(() => (source.textContent = before), 1200);
}

function download(name, text) {
  const link = make("a", { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
