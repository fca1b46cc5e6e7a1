// The recordings of one batch: sent from here or found in it, and what became of each.

import { ask } from "./api.js";
import { Card, hasEnded, stateOf } from "./card.js";
import { button, byId, bytes, copied, h, number } from "./dom.js";
import { labelName, reason, t } from "./text.js";
import { newId, Uploader } from "./uploader.js";

const EVERY_MS = 1000;
const ASKED_AT_ONCE = 100;
const FEW = 20; // so many show all their scores at once
const UNKNOWN_LOOKS = 10; // so often a job may be unknown before it is called gone

export class Recordings {
  constructor(about, batch, say) {
    Object.assign(this, { about, batch, say, write: about.write, cli: about.redis_cli });
    this.prefix = about.prefix;
    this.items = [];
    this.cards = new Map();
    this.asked = 0;
    this.uploader = new Uploader(batch, (item) => this.changed(item));
    this.list = byId("list");
    this.buildToolbar();
  }

  get few() {
    return this.items.length <= FEW;
  }

  /** What the batch holds already; its uploads that nobody ended wait for their files. */
  async load() {
    const found = await ask(`/api/batches/${encodeURIComponent(this.batch)}`);
    for (const file of found.files) {
      const state = file.state === "uploading" ? "interrupted" : file.state;
      const known = this.items.find((item) => item.job === file.job);
      if (known?.state === "interrupted") this.changed(Object.assign(known, { ...file, state }));
      else if (!known && this.isShown(file)) this.insert({ ...file, state });
    }
    const total = (found.counts?.jobs ?? 0) - found.files.filter((one) => one.state === "sent").length;
    byId("others").textContent = total > 0
      ? t("othersCount", { count: total, failed: found.others.length }) : "";
    this.toolbar();
  }

  /** Whether a file that no card is of gets one: not what was removed, or cancelled before its end. */
  isShown({ job, state }) {
    return state !== "cancelled" && !this.uploader.dropped.has(job);
  }

  /** Show one job by its id, which may be of no batch. */
  async loadJob(job) {
    const { jobs: [found] } = await ask(`/api/jobs?ids=${encodeURIComponent(job)}`);
    const item = this.insert({ ...found, name: found.key?.split("/").at(-1) || job, state: "sent" });
    if (!found.status) this.changed(Object.assign(item, { status: "gone" }));
    this.cards.get(item).toggle(true);
  }

  insert(item) {
    this.items.push(item);
    const card = new Card(item, this);
    this.cards.set(item, card);
    this.list.append(card.element);
    this.list.classList.toggle("long", !this.few);
    if (this.items.length === FEW + 1) this.cards.forEach((one) => one.render());
    card.render();
    return item;
  }

  /** Send files; those that cannot be are named at once. Returns what is wrong, a line each. */
  add(files, options) {
    const wrong = [];
    for (const file of files) {
      const fault = this.fault(file);
      if (fault) {
        wrong.push(fault);
        continue;
      }
      const known = this.items.find((item) => item.state === "interrupted"
        && item.name === file.name && item.size === file.size
        && item.modified === file.lastModified);
      const item = known || this.insert({
        job: newId(), name: file.name, size: file.size, state: "waiting", sent: 0,
      });
      Object.assign(item, { file, options });
      this.uploader.add(item);
    }
    this.toolbar();
    return wrong;
  }

  fault(file) {
    const { max_file_bytes: most, max_files: files, suffixes } = this.about;
    const { name } = file;
    const suffix = name.includes(".") ? name.slice(name.lastIndexOf(".")).toLowerCase() : "";
    if (!file.size) return t("empty", { name });
    if (file.size > most) return t("tooLarge", { name, size: bytes(file.size), most: bytes(most) });
    if (!suffixes.includes(suffix)) return t("notAudio", { name });
    if (this.items.length >= files) return t("tooMany", { most: number(files) });
    return "";
  }

  async cancel(item) {
    if (item.state !== "sent") return this.uploader.cancel(item);
    await this.act(() => ask(`/api/jobs/${encodeURIComponent(item.job)}/cancel`, { method: "POST" }));
    return this.look([item]);
  }

  async retry(item) {
    if (item.file && (item.state !== "sent" || item.status === "gone")) {
      this.uploader.drop(item);
      item.job = newId();
      item.anew = false;
      Object.assign(item, { status: "", error_code: "", error: "" });
      this.uploader.add(item);
      return;
    }
    const path = `/api/jobs/${encodeURIComponent(item.job)}/retry?batch=${encodeURIComponent(this.batch)}`;
    const said = await this.act(() => ask(path, { method: "POST" }));
    if (said) this.changed(Object.assign(item, { status: "queued", error: "", error_code: "", unknown: 0 }));
  }

  async act(doIt) {
    try {
      return await doIt();
    } catch (error) {
      this.say(reason(error), true);
      return null;
    }
  }

  remove(item) {
    this.uploader.drop(item);
    this.items = this.items.filter((one) => one !== item);
    this.cards.get(item).element.remove();
    this.cards.delete(item);
    this.toolbar();
  }

  async cancelAll() {
    for (const item of this.items.filter((one) => !hasEnded(one))) {
      if (item.state !== "sent") this.uploader.cancel(item);
    }
    await this.act(() => ask(`/api/batches/${encodeURIComponent(this.batch)}/cancel`, { method: "POST" }));
  }

  changed(item) {
    const card = this.cards.get(item);
    if (!card) return;
    const before = card.element.dataset.state;
    card.render();
    if (before === stateOf(item)) return;
    if (hasEnded(item)) this.announce(item);
    this.toolbar();
  }

  announce(item) {
    const state = stateOf(item);
    byId("spoken").textContent = state === "done"
      ? t("spokenDone", { name: item.name, label: labelName(item.label), score: number(item.score, 2) })
      : t("spokenFailed", { name: item.name, state: t(`state_${state}`) });
  }

  /** Ask what became of those that have not ended, some at a time, for as long as there are any. */
  async watch(down, up) {
    let looks = 0;
    let unheard = false;
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
      looks += 1;
      const open = this.items.filter((item) => item.state === "sent" && !hasEnded(item));
      // Another page may go on with what was interrupted here; or nobody answers who is sent files.
      const waiting = this.items.some((item) => item.state === "interrupted" || item.trouble);
      const whole = (waiting && looks % 5 === 0) || unheard;
      if (!open.length && !whole) continue;
      const from = open.length ? this.asked % open.length : 0;
      const some = [...open.slice(from), ...open.slice(0, from)].slice(0, ASKED_AT_ONCE);
      this.asked = open.length > ASKED_AT_ONCE ? from + ASKED_AT_ONCE : 0;
      try {
        if (some.length) await this.look(some);
        if (whole) await this.load();
        unheard = false;
        up();
      } catch (error) {
        unheard = true;
        down(error);
      }
    }
  }

  async look(items) {
    const { jobs } = await ask(`/api/jobs?ids=${items.map((item) => encodeURIComponent(item.job)).join(",")}`);
    const found = new Map(jobs.map((one) => [one.job, one]));
    for (const item of items) {
      const news = found.get(item.job);
      if (news?.status) {
        this.changed(Object.assign(item, { error: "", error_code: "", unknown: 0 }, news));
      } else {
        item.unknown = (item.unknown || 0) + 1;
        if (item.unknown >= UNKNOWN_LOOKS) this.changed(Object.assign(item, { status: "gone" }));
      }
    }
  }

  /** In another language. */
  translate() {
    for (const card of this.cards.values()) card.render();
    this.buildToolbar();
    this.toolbar();
  }

  /** Its buttons stay while the counts change: so does the focus in them, and what is selected. */
  buildToolbar() {
    const shown = h("code", { hidden: true });
    const copy = button("copyLink", async () => {
      shown.textContent = new URL(`?batch=${encodeURIComponent(this.batch)}`, location).href;
      copy.textContent = await copied(shown.textContent, shown);
    }, { onblur: () => { copy.textContent = t("copyLink"); } });
    this.counts = h("p", {});
    this.rest = this.write ? button("cancelAll", () => this.cancelAll()) : null;
    byId("toolbar").replaceChildren(this.counts, h("div", { class: "actions" }, this.rest,
      copy, button("newBatch", () => location.assign(location.pathname))), shown);
  }

  toolbar() {
    byId("toolbar").hidden = !this.items.length;
    const ended = this.items.filter(hasEnded);
    const done = ended.filter((item) => stateOf(item) === "done").length;
    const open = this.items.length - ended.length;
    this.counts.textContent = [t(this.items.length === 1 ? "batchOne" : "batchCount", { total: number(this.items.length) }),
      done ? t("done", { count: number(done) }) : "",
      ended.length > done ? t("failedCount", { count: number(ended.length - done) }) : "",
      open ? t("openCount", { count: number(open) }) : ""].filter(Boolean).join(" · ");
    if (this.rest) this.rest.hidden = !open;
  }
}
