// What the canvas shows, in words: the legend, a summary by speaker, and the list of turns.

import { clock, labelText, percent } from "./timeline-text.js";
import { legendOf, summaryOf } from "./timeline-model.js";
import { opacityOf } from "./timeline-canvas.js";

const ROWS = 100; // of turns at a time; a long call has thousands

/** An element with text or children: what others wrote is text, never markup. */
export function element(name, about = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(about)) {
    if (key === "style") made.style.cssText = value; // a policy may forbid the attribute
    else if (value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.filter((one) => one !== null && one !== undefined));
  return made;
}

function swatch(label, score = 1) {
  return element("span", {
    class: "et-swatch", "aria-hidden": "true",
    style: `background: var(--et-${cssName(label)}); opacity: ${opacityOf(score)}`,
  });
}

/** What the style sheet calls a label; one that it does not know has the colour of `unknown`. */
export function cssName(label) {
  const known = ["angry", "disgusted", "fearful", "happy", "neutral", "other", "sad", "surprised"];
  return known.includes(label) ? label : "unknown";
}

/** Who speaks, or which channel it is. */
export function nameOf(texts, one) {
  if (one.speaker) return one.speaker;
  return one.channel === null || one.channel === undefined ? texts.mix : texts.channel(one.channel);
}

export function legend(texts, model) {
  if (!model.turns.length) return null;
  const entries = legendOf(model).map(({ label, share }) =>
    element("li", {}, swatch(label), `${labelText(texts, label)} `,
      element("span", { class: "et-muted" }, percent(share))));
  return element("div", { class: "et-legend" },
    element("ul", { "aria-label": texts.legend }, ...entries),
    element("span", { class: "et-muted" }, texts.sureness));
}

function stacked(parts) {
  return element("div", { class: "et-stack", "aria-hidden": "true" }, ...parts.map(({ label, share }) =>
    element("span", { style: `flex: ${share} 0 0; background: var(--et-${cssName(label)})` })));
}

function shareRow(texts, title, { total, parts }) {
  const told = parts.filter((one) => one.share >= 0.005)
    .map((one) => `${labelText(texts, one.label)} ${percent(one.share)}`).join(" · ");
  return element("div", { class: "et-share" },
    element("dt", {}, title),
    element("dd", {}, stacked(parts),
      element("span", {}, total ? told : texts.silentThen)));
}

/** From how somebody mostly began to how they mostly ended. */
function change(texts, { opening, closing }) {
  if (!opening.parts.length || !closing.parts.length) return null;
  const [first, last] = [opening.parts[0].label, closing.parts[0].label];
  const names = [labelText(texts, first), labelText(texts, last)];
  return element("span", { class: "et-change" },
    element("span", { class: "et-hidden" }, texts.change(...names)),
    element("span", { "aria-hidden": "true" }, swatch(first), names[0], " → ", swatch(last), names[1]));
}

/** Whether anything is said of a speaker or of a channel by itself. */
function isOfSomebody(model) {
  return model.turns.some((one) => one.speaker !== null || one.channel !== null);
}

export function summary(texts, model) {
  if (model.kind === "whole" || !model.turns.length) return null; // there is nothing to compare
  const cards = summaryOf(model).map((row) =>
    element("article", { class: "et-card" },
      element("header", {},
        element("h4", {}, nameOf(texts, row), model.kind === "segments"
          ? element("span", { class: "et-muted" }, ` ${texts.speaks} ${clock(row.whole.total)}`)
          : null),
        change(texts, row)),
      element("dl", {},
        shareRow(texts, texts.share, row.whole),
        shareRow(texts, texts.opening, row.opening),
        shareRow(texts, texts.closing, row.closing))));
  return element("section", { class: "et-summary" },
    element("h3", {}, isOfSomebody(model) ? texts.summary : texts.overall), element("div", { class: "et-cards" }, ...cards));
}

function second(texts, one) {
  const rest = Object.entries(one.scores).filter(([label]) => label !== one.label)
    .sort((a, b) => b[1] - a[1])[0];
  return rest ? `${labelText(texts, rest[0])} ${percent(rest[1])}` : "";
}

function row(texts, one, { play, extra, hasWho }) {
  const when = element("button", { type: "button", class: "et-when" },
    element("span", { class: "et-hidden" }, `${texts.play}: ${texts.from} `),
    clock(one.start),
    element("span", { class: "et-until" },
      element("span", { "aria-hidden": "true" }, " – "),
      element("span", { class: "et-hidden" }, ` ${texts.to} `),
      clock(one.end)));
  when.addEventListener("click", () => play(one));
  const meter = element("span", { class: "et-meter", "aria-hidden": "true" },
    element("span", { style: `width: ${100 * one.score}%; background: var(--et-${cssName(one.label)})` }));
  const cells = [
    element("td", {}, when),
    hasWho ? element("td", { class: "et-who" }, nameOf(texts, one)) : null,
    element("td", {}, element("span", { class: "et-label" },
      swatch(one.label, one.score), labelText(texts, one.label)),
      one.warning ? element("span", { class: "et-muted" }, ` ${one.warning}`) : null),
    element("td", { class: "et-sure" }, meter, element("span", {}, percent(one.score))),
    element("td", { class: "et-also et-muted" }, second(texts, one)),
  ];
  if (extra) cells.push(element("td", { class: "et-extra" }, extra(one) || ""));
  return element("tr", { "data-turn": one.index }, ...cells);
}

/** The turns, a hundred at a time; `play` is told which was chosen, `extra` makes a last cell. */
export function turnsTable(texts, model, callbacks) {
  if (!model.turns.length) return null;
  const hasWho = isOfSomebody(model);
  const heads = [texts.when, hasWho ? texts.who : null, texts.label, texts.sure, texts.also]
    .map((text, at) => text && element("th", { scope: "col", class: at === 4 ? "et-also" : null }, text));
  if (callbacks.extra) heads.push(element("th", { scope: "col", class: "et-extra" }));
  const body = element("tbody");
  const more = element("button", { type: "button", class: "et-button et-more" });
  let shown = 0;
  const grow = () => {
    const next = model.turns.slice(shown, shown + ROWS);
    for (const one of next) {
      const made = row(texts, one, { ...callbacks, hasWho });
      callbacks.rows.set(one.index, made);
      body.append(made);
    }
    shown += next.length;
    more.hidden = shown >= model.turns.length;
    more.textContent = texts.more(model.turns.length - shown);
  };
  more.addEventListener("click", grow);
  grow();
  return element("section", { class: "et-turns" },
    element("h3", {}, `${model.kind === "timeline" ? texts.moments : texts.turns} `, element("span", { class: "et-muted" }, String(model.turns.length))),
    element("div", { class: "et-table" },
      element("table", {}, element("thead", {}, element("tr", {}, ...heads)), body)),
    more);
}
