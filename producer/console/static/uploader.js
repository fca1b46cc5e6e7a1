// Files in parts to the console, which puts them into the store as they come.
//
// What does not get through is sent again for as long as it takes; the console says which parts it
// has, so that neither a lost answer nor a console that was started anew sends a file twice.

import { ask, pause, Refused, send } from "./api.js";

const AT_ONCE = 3; // files
const PATIENCE_MS = 10_000;
const WAITS_MS = [500, 1000, 2000, 5000, 10000];

export const newId = () => [...crypto.getRandomValues(new Uint8Array(16))]
  .map((byte) => byte.toString(16).padStart(2, "0")).join("");

export class Uploader {
  /** `changed(item)` is called whenever an item has; an item's fields are those of `add`. */
  constructor(batch, changed) {
    this.batch = batch;
    this.changed = changed;
    this.waiting = [];
    this.running = 0;
    this.dropped = new Set(); // ids that are no recording's any more
  }

  get busy() {
    return this.running + this.waiting.length;
  }

  /** Send `item.file` as `item.job`, with the options that were chosen for it. */
  add(item) {
    item.gone = new AbortController();
    this.tell(item, { state: "waiting", sent: 0, error: null, trouble: null });
    this.waiting.push(item);
    this.next();
  }

  async cancel(item) {
    this.waiting = this.waiting.filter((one) => one !== item);
    item.gone?.abort();
    this.tell(item, { state: "cancelled", trouble: null });
    await this.giveUp(item);
  }

  /** Have done with an item's id: it is removed, or sent as another. */
  async drop(item) {
    this.dropped.add(item.job);
    await this.giveUp(item);
  }

  async giveUp(item) {
    await ask(this.path(item), { method: "DELETE" }).catch(() => {}); // it may never have begun
  }

  path(item) {
    return `/api/uploads/${encodeURIComponent(this.batch)}/${encodeURIComponent(item.job)}`;
  }

  tell(item, news) {
    Object.assign(item, news);
    this.changed(item);
  }

  next() {
    while (this.running < AT_ONCE && this.waiting.length) {
      const item = this.waiting.shift();
      this.running += 1;
      this.run(item).finally(() => {
        this.running -= 1;
        this.next();
      });
    }
  }

  async run(item) {
    const { signal } = item.gone;
    try {
      this.tell(item, { state: "uploading" });
      const state = await this.persist(item, () => this.once(item, signal), signal);
      this.tell(item, { state, status: "queued", trouble: null });
    } catch (error) {
      if (signal.aborted) return;
      this.tell(item, { state: "refused", error_code: error.code, error: error.message, trouble: null });
    }
  }

  /** Do it until it is done, or refused for good. What was left alone for too long, as by a computer
   *  that slept, is begun anew; and once what the store has lost. */
  async persist(item, act, signal) {
    let tries = 0;
    for (;;) {
      const before = item.sent;
      try {
        return await act();
      } catch (error) {
        if (signal.aborted) throw error;
        if (error.status === 410 && (error.code === "abandoned" || !item.anew)) {
          item.anew ||= error.code !== "abandoned";
          this.drop(item);
          item.job = newId();
          this.tell(item, { sent: 0 });
        } else if (!error.passing && error.status !== 409) { // 409: it has ended; asked, it says how
          throw error;
        }
        if (item.sent > before) tries = 0;
        this.tell(item, { trouble: error.passing ? error.code : "anew" });
        await pause(WAITS_MS[Math.min(tries, WAITS_MS.length - 1)], signal);
        tries += 1;
      }
    }
  }

  /** Send what is missing; gives the state that it is in then. */
  async once(item, signal) {
    const { file, options } = item;
    const told = { batch: this.batch, job: item.job, name: item.name, ...options };
    Object.assign(told, { size: file.size, modified: file.lastModified });
    const known = await ask("/api/uploads", { method: "POST", json: told, signal });
    if (["sent", "cancelled"].includes(known.state)) return known.state;
    if (known.state !== "uploading") {
      throw new Refused(410, { error: known.state, message: `the upload is ${known.state}` });
    }
    const size = known.part_bytes;
    const parts = Math.ceil(file.size / size);
    for (let part = Math.min(known.parts, parts); part < parts; part += 1) {
      const from = part * size;
      const blob = file.slice(from, Math.min(from + size, file.size));
      const onProgress = (sent) => this.tell(item, { sent: from + sent, trouble: null });
      await send(`${this.path(item)}/${part}`, blob, { signal, onProgress }).catch(async (error) => {
        throw error.status === 0 && await unreadable(blob) || error;
      });
      this.tell(item, { sent: from + blob.size, trouble: null });
    }
    await ask(`${this.path(item)}/finish`, { method: "POST", signal });
    return "sent";
  }
}

/** Browsers do not tell a file that has gone, or was changed, from a console that does not answer. */
async function unreadable(blob) {
  const gone = new Refused(400, { error: "unreadable_file", message: "the file cannot be read any more" });
  const first = blob.slice(0, 1).arrayBuffer();
  // A disk that hangs may come back.
  return Promise.race([first.then(() => null, () => gone), pause(PATIENCE_MS).then(() => null)]);
}
