// One recording: what it is, how far it has come, and what was heard.

import { ask } from "./api.js";
import { bar, button, bytes, code, duration, h, number } from "./dom.js";
import { advice, faultName, labelName, language, t } from "./text.js";
import { mount as mountTimeline } from "./timeline.js";

export const DARK = matchMedia("(prefers-color-scheme: dark)");
const UPLOADING = ["waiting", "uploading"];
const ENDS = ["done", "failed", "dead", "expired", "cancelled", "gone", "unreadable"];
const AGAIN = ["failed", "dead", "expired", "cancelled", "gone", "abandoned", "lost", "refused"];

/** Where a recording is: what its upload says, and from then on its job. */
export function stateOf(item) {
  return item.state === "sent" ? item.status || "queued" : item.state;
}

export const hasEnded = (item) => item.state !== "sent"
  ? !UPLOADING.includes(item.state) && item.state !== "interrupted"
  : ENDS.includes(item.status);

export class Card {
  constructor(item, page) {
    this.item = item;
    this.page = page;
    this.open = false;
    this.element = h("li", { class: "card" });
    this.head = h("div", { class: "head" });
    this.body = h("div", { class: "body", id: `body-${item.job}` });
    this.element.append(this.head, this.body);
    this.shown = "";
  }

  /** Show it as it is now; what has not changed is left, with the focus in it. */
  render() {
    const { item } = this;
    const state = stateOf(item);
    this.element.dataset.state = state;
    if (this.progress && state === "uploading" && this.shown === this.signature()) {
      this.showProgress();
      return;
    }
    if (this.shown === this.signature()) return;
    this.shown = this.signature();
    this.progress = null;
    const focused = this.head.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    this.head.replaceChildren(this.title(), this.verdict(state), this.actions(state));
    if (focused) {
      const buttons = [...this.head.querySelectorAll("button")];
      (buttons.find((one) => one.dataset.key === focused) ?? buttons[0])?.focus({ preventScroll: true });
    }
    this.renderBody(state);
  }

  signature() {
    const { item } = this;
    const { state, status, error, trouble, name, job } = item;
    return JSON.stringify([state, status, error, trouble, name, job, item.label, this.open,
      language(), item.objects?.length, item.parts, this.page.few, DARK.matches]);
  }

  title() {
    const { item } = this;
    const facts = [item.size ? bytes(item.size) : "", duration(item.duration_s)].filter(Boolean);
    const warnings = (item.warning || "").split(",").filter(Boolean)
      .map((one) => h("span", { class: "warning" }, t("warning", { warning: t(`warn_${one}`) })));
    return h("div", { class: "title" },
      h("h2", { title: item.name }, item.name || item.job),
      h("p", { class: "muted" }, facts.join(" · "), warnings));
  }

  verdict(state) {
    const { item } = this;
    if (state === "done") {
      const dot = h("span", { class: "swatch", "aria-hidden": "true" });
      dot.style.background = `var(--label-${item.label}, var(--accent))`;
      return h("p", { class: "verdict" }, dot, h("strong", {}, labelName(item.label)),
        h("span", { class: "score" }, number(item.score, 2)));
    }
    if (state === "uploading") {
      this.progress = h("span", { class: "share" });
      this.track = h("progress", { max: 1, "aria-label": `${t("state_uploading")} ${item.name}` });
      this.showProgress();
      return h("p", { class: "verdict sending" }, this.progress, this.track);
    }
    return h("p", { class: "verdict" }, h("span", { class: "chip" }, t(`state_${state}`)));
  }

  showProgress() {
    const { item } = this;
    const share = item.size ? item.sent / item.size : 0;
    this.track.value = share;
    this.progress.textContent = item.trouble ? t("stalled")
      : t("sendingAt", { share: Math.floor(100 * share) });
  }

  actions(state) {
    const { item, page } = this;
    const made = [];
    if (page.write && (UPLOADING.includes(state) || !hasEnded(item)) && state !== "interrupted") {
      made.push(button("cancel", () => page.cancel(item)));
    }
    if (page.write && AGAIN.includes(state) && (item.file || item.state === "sent")) {
      made.push(button("retry", () => page.retry(item)));
    }
    if (["refused", "interrupted"].includes(state)) {
      made.push(button("remove", () => page.remove(item)));
    }
    if (item.state === "sent") {
      made.push(button(this.open ? "hide" : "show", () => this.toggle(), {
        "aria-expanded": String(this.open), "aria-controls": this.body.id,
      }));
    }
    return h("div", { class: "actions" }, made);
  }

  toggle(open = !this.open) {
    this.open = open;
    this.render();
    this.head.querySelector("[aria-expanded]")?.focus();
  }

  renderBody(state) {
    const { item } = this;
    this.timeline?.destroy();
    this.timeline = null;
    const fault = item.error_code || (AGAIN.includes(state) ? state : item.trouble) || "";
    const said = [];
    if (item.error && faultName(fault)) said.push(h("p", { class: "fault" }, faultName(fault)));
    if (item.error) said.push(h("p", { class: "error", lang: "en" }, item.error));
    if (advice(fault)) said.push(h("p", { class: "advice" }, h("b", {}, t("whatToDo")), advice(fault)));
    if (state === "interrupted") said.push(h("p", { class: "advice" }, t("interruptedHelp")));
    if (state === "done" && (this.open || this.page.few)) said.push(scores(item));
    if (!this.open) return void this.body.replaceChildren(...said);
    said.push(this.correction());
    const place = h("div", { class: "place" });
    if (state === "done" && (item.parts || item.objects?.length)) said.push(place);
    const { cli, prefix } = this.page;
    said.push(h("dl", { class: "facts" },
      h("dt", {}, t("jobId")), h("dd", {}, code(item.job)),
      h("dt", {}, t("inRedis")), h("dd", {}, code(`${cli} HGETALL ${prefix}:result:${item.job}`))));
    this.body.replaceChildren(...said.filter(Boolean));
    if (place.isConnected) this.mount(place);
  }

  /** The component of the worker's side: waveform, turns, and a summary by speaker. */
  async mount(place) {
    const { item } = this;
    const url = (what) => (item.objects?.includes(what) ? `/objects/${encodeURIComponent(item.job)}/${what}` : null);
    try {
      const result = await ask(`/api/jobs/${encodeURIComponent(item.job)}`);
      if (!place.isConnected) return;
      const extra = this.page.write
        ? (turn) => this.correction({
          start_s: turn.start, end_s: turn.end, channel: turn.channel, heard: turn.label,
        })
        : undefined;
      const options = { result, peaksUrl: url("peaks"), audioUrl: url("preview"), extra };
      this.timeline = mountTimeline(place, {
        ...options, lang: language(), theme: DARK.matches ? "dark" : "light",
      });
    } catch (error) {
      place.replaceChildren(h("p", { class: "error" }, t("loadFailed", { why: error.message })));
    }
  }

  /** Says what the label should have been, of the whole or of one turn. */
  correction(turn = null) {
    if (!this.page.write || !this.item.scores) return null;
    const box = h("span", { class: "correction" });
    const ask_ = button("wrongLabel", () => {
      const choice = h("select", { "aria-label": t("shouldBe") },
        Object.keys(this.item.scores).map((label) => h("option", { value: label }, labelName(label))));
      box.replaceChildren(t("shouldBe"), choice,
        button("save", () => this.keep(box, { ...turn, label: choice.value }), { class: "small" }));
      choice.focus();
    }, { class: "small quiet" });
    box.append(ask_);
    return box;
  }

  async keep(box, told) {
    const path = `/api/jobs/${encodeURIComponent(this.item.job)}/correction`;
    let said;
    try {
      await ask(path, { method: "POST", json: { ...told, batch: this.page.batch } });
      said = t("saved");
    } catch (error) {
      said = t("notSaved", { why: error.message });
    }
    const told_ = h("span", { role: "status", tabindex: "-1" }, said);
    box.replaceChildren(told_);
    told_.focus(); // where the button was
  }
}

/** All scores, the highest first. */
function scores(item) {
  const rows = Object.entries(item.scores || {}).sort((one, other) => other[1] - one[1])
    .map(([label, score]) => h("li", {}, h("span", { class: "name" }, labelName(label)),
      bar(score, label), h("span", { class: "number" }, number(score, 3))));
  return h("ol", { class: "scores", "aria-label": t("of9") }, rows);
}
