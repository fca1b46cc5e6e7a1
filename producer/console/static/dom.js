// Elements, and how numbers are written.

import { language, t } from "./text.js";

export const byId = (id) => document.getElementById(id);

/** An element. `on…` are listeners, `class` and the rest attributes; null children are left out. */
export function h(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

export function button(key, act, options = {}) {
  return h("button", { type: "button", onclick: act, "data-key": key, ...options }, t(key));
}

/** A bar that is so full, from 0 to 1, for the eye alone. */
export function bar(share, name = "") {
  const fill = h("span", { class: "fill" });
  fill.style.width = `${100 * Math.max(0, Math.min(1, share))}%`;
  if (name) fill.style.background = `var(--label-${name}, var(--accent))`;
  return h("span", { class: "bar", "aria-hidden": "true" }, fill);
}

const locale = () => (language() === "zh" ? "zh-CN" : "en");

export function number(value, digits = 0) {
  if (value === null || value === undefined || !Number.isFinite(Number(value))) return "–";
  const told = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return Number(value).toLocaleString(locale(), told);
}

export function bytes(count) {
  if (count < 1024) return `${count} B`;
  const units = ["KB", "MB", "GB", "TB"];
  let value = count / 1024;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return `${number(value, value < 10 ? 1 : 0)} ${units[unit]}`;
}

/** 7 s, 3:05, 1:02:03. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 60) return `${number(seconds, seconds < 10 ? 1 : 0)} s`;
  const whole = Math.round(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const shown = parts[0] ? parts : parts.slice(1);
  return shown.map((part, place) => (place ? String(part).padStart(2, "0") : part)).join(":");
}

/** How long something has lasted, as people say it. */
export function age(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds / 60) % 60} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor(seconds / 3600) % 24} h`;
}

/** Copy a text, or select it in the element that shows it; what was done, in words. */
export async function copied(text, shown) {
  try {
    await navigator.clipboard.writeText(text);
    return t("copied");
  } catch { // a page that came over plain HTTP has no clipboard
    shown.hidden = false;
    getSelection().selectAllChildren(shown);
    return t("selected");
  }
}

/** A line of code that can be copied. */
export function code(text) {
  const said = h("span", { class: "said", role: "status" });
  const copy = button("copy", async () => {
    said.textContent = await copied(text, shown);
  }, { class: "small" });
  const shown = h("code", {}, text);
  return h("span", { class: "code" }, shown, copy, said);
}
