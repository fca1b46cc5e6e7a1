// What the lanes and the workers are doing, looked at once a second while somebody looks.

import { ask } from "./api.js";
import { age, button, h } from "./dom.js";
import { failures, lanes, tiles, workers } from "./live-parts.js";
import { reason, t } from "./text.js";

const EVERY_MS = 1000;
const PATIENCE_MS = 10_000; // the next look is as good
const KEPT = 120; // points of a curve

export class Live {
  constructor(host, { write, down, up }) {
    Object.assign(this, { host, write, down, up });
    this.past = { jobs: [], audio: [], waiting: [] };
    this.parts = {};
    this.watching = false;
    this.build();
  }

  build() {
    const names = ["tiles", "lanes", "workers", "failures", "job"];
    for (const name of names) this.parts[name] = h("div", { class: `live-${name}` });
    this.stale = h("p", { class: "muted stale" });
    this.said = h("p", { class: "note said", role: "status" }); // outlives the next look
    this.host.replaceChildren(this.stale, this.said, ...names.map((name) => this.parts[name]));
    this.parts.job.replaceChildren(this.jobForm());
    this.told = {};
  }

  watch(on) {
    const was = this.watching;
    this.watching = on;
    if (on && !was) this.run();
  }

  async run() {
    const turn = Symbol("turn");
    this.turn = turn;
    const aging = setInterval(() => this.tellAge(), EVERY_MS); // also while nobody answers
    while (this.watching && this.turn === turn) {
      if (!document.hidden) await this.look();
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
    }
    clearInterval(aging);
  }

  async look() {
    try {
      this.found = await ask("/api/live", { patienceMs: PATIENCE_MS });
      this.at = Date.now();
      this.up();
      this.remember();
    } catch (error) {
      this.down(error);
    }
    this.render();
  }

  remember() {
    const { lanes: all, workers: some, rate } = this.found;
    const sum = (of, name) => of.reduce((total, one) => total + (Number(one[name]) || 0), 0);
    const points = {
      jobs: some.length ? sum(some, "clips_a_second") : rate.jobs_a_second,
      audio: sum(some, "audio_seconds_a_second"),
      waiting: sum(all, "queued") + sum(all, "delayed"),
    };
    for (const [name, value] of Object.entries(points)) {
      this.past[name].push(value);
      if (this.past[name].length > KEPT) this.past[name].shift();
    }
  }

  render() {
    if (!this.found) return;
    this.tellAge();
    this.put("tiles", tiles(this.found, this.past));
    this.put("lanes", lanes(this.found, this.write && ((lane, paused) => this.pause(lane, paused))));
    this.put("workers", workers(this.found));
    this.put("failures", failures(this.found, this.write && {
      replayDead: (code) => this.act("/api/dead/replay", "replayed", code),
      cancelWaiting: (code) => this.act("/api/retries/cancel", "cancelledWaiting", code),
    }));
  }

  /** How old the figures are, where they are. */
  tellAge() {
    const seconds = this.found ? (Date.now() - this.at) / 1000 : 0;
    this.stale.textContent = seconds > 3 ? t("stale", { age: age(seconds) }) : "";
  }

  /**
   * Only what has changed is replaced: a button that is pressed stays. What is scrolled stays where
   * it is, and so does the focus, or it goes to the table where what had it is gone.
   */
  put(name, made) {
    const text = made.outerHTML;
    if (this.told[name] === text) return;
    const part = this.parts[name];
    const focused = part.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    const left = part.querySelector(".scroll")?.scrollLeft ?? 0;
    this.told[name] = text;
    part.replaceChildren(made);
    const table = part.querySelector(".scroll");
    if (table) table.scrollLeft = left;
    if (!focused) return;
    const again = part.querySelector(`[data-key="${CSS.escape(focused)}"]`) ?? table;
    again?.focus({ preventScroll: true });
  }

  translate() {
    this.build();
    this.render();
  }

  async pause(lane, paused) {
    try {
      await ask(`/api/lanes/${lane}`, { method: "POST", json: { paused } });
      this.said.textContent = "";
    } catch (error) {
      this.said.textContent = reason(error);
    }
    await this.look();
  }

  /** All jobs of one cause; `told` is the text that says what became of them. */
  async act(path, told, cause) {
    try {
      this.said.textContent = t(told, await ask(path, { method: "POST", json: { reason: cause } }));
    } catch (error) {
      this.said.textContent = reason(error);
    }
  }

  jobForm() {
    const id = h("input", { id: "job-id", autocomplete: "off", spellcheck: "false", required: true });
    const said = h("p", { role: "status", class: "muted" });
    const act = async (what) => {
      if (!id.value) return id.focus();
      const path = `/api/jobs/${encodeURIComponent(id.value.trim())}/${what}`;
      try {
        const { verdict, was } = await ask(path, { method: "POST" });
        said.textContent = verdict === "UNKNOWN" ? t("unknownJob")
          : verdict === "ENDED" ? t("notCancelled", { was: t(`state_${was}`) })
          : t(what === "cancel" ? "cancelled" : "state_queued");
      } catch (error) {
        said.textContent = reason(error);
      }
      return null;
    };
    const open = (event) => {
      event.preventDefault();
      location.assign(`?job=${encodeURIComponent(id.value.trim())}`);
    };
    return h("form", { class: "panel job", onsubmit: open },
      h("label", { for: "job-id" }, t("actOnJob")), id,
      h("button", {}, t("open")),
      this.write ? button("retry", () => act("retry")) : null,
      this.write ? button("cancel", () => act("cancel")) : null, said);
  }
}

