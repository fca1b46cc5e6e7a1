// What the page says, in English and Chinese: `data-t` elements, and what scripts ask for.

import { advice as adviceEn, english } from "./text-en.js";
import { advice as adviceZh, chinese } from "./text-zh.js";

const TEXTS = { en: english, zh: chinese };
const ADVICE = { en: adviceEn, zh: adviceZh };
const KEPT = "emostream.language";
const listeners = [];

let current = kept() || (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en");

function kept() {
  try {
    const found = localStorage.getItem(KEPT);
    return found in TEXTS ? found : null;
  } catch {
    return null;
  }
}

export const language = () => current;

/** The text of that key, with `{name}` filled in. */
export function t(key, values = {}) {
  const text = TEXTS[current][key] ?? english[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

export const labelName = (label) => t(`label_${label}`) === `label_${label}` ? label
  : t(`label_${label}`);

/** What an error code is about, in a few words, or "": the message beside it is always English. */
export const faultName = (code) => t(`fault_${code}`) === `fault_${code}` ? ""
  : t(`fault_${code}`);

/** A worker's state, which may be one that only newer workers have. */
export const stateName = (state) => t(`worker_${state}`) === `worker_${state}` ? state
  : t(`worker_${state}`);

/** What to do about an error code, or "". */
export const advice = (code) => (Object.hasOwn(ADVICE[current], code) ? ADVICE[current][code] : "");

/** Why a request was refused: by what it says, and by what to do where that alone does not tell. */
export const reason = ({ code, message }) => (
  code === "redis_denied" ? `${message}. ${advice(code)}` : message);

/** Call it now, and whenever another language was chosen. */
export function onLanguage(listener) {
  listeners.push(listener);
  apply();
  listener();
}

export function switchLanguage() {
  current = current === "en" ? "zh" : "en";
  try {
    localStorage.setItem(KEPT, current);
  } catch {
    // Not kept, then.
  }
  apply();
  listeners.forEach((listener) => listener());
}

function apply() {
  document.documentElement.lang = current === "zh" ? "zh-Hans" : "en";
  for (const element of document.querySelectorAll("[data-t]")) {
    element.textContent = t(element.dataset.t);
  }
  for (const element of document.querySelectorAll("[data-t-label]")) {
    element.setAttribute("aria-label", t(element.dataset.tLabel));
  }
  const other = document.getElementById("language");
  if (other) {
    other.textContent = current === "zh" ? "English" : "中文";
    other.lang = current === "zh" ? "en" : "zh";
  }
}
