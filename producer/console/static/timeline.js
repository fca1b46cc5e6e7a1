// The timeline of a recording: EmoTimeline.mount(element, {result, peaksUrl, audioUrl, lang}).
//
//   result    a result's fields as docs/wire.md has them; lists may be JSON text or parsed. Where
//             the result has `segments_key` and so on, put the list that lies there into `segments`.
//   peaksUrl  where the object of `peaks_key` is served, or null
//   audioUrl  where that of `preview_key` is, by a server that knows `Range`, or null
//   lang      "en" or "zh"; else English
//   theme     "light" or "dark"; else that of what lies behind the element
//   extra     (turn) => Node or null: a last cell for each row of the turns
//
// It returns {seek(seconds, {play}), update(options), destroy()}, and mounting again on the same
// element destroys what was there. It needs no other script, and asks for nothing but the two URLs.

import { textsOf } from "./timeline-text.js";
import { durationOf, modelOf } from "./timeline-model.js";
import { parsePeaks } from "./timeline-peaks.js";
import { element, legend, summary, turnsTable } from "./timeline-tables.js";
import { Stage } from "./timeline-stage.js";
import { controls } from "./timeline-controls.js";

const mounted = new WeakMap();

class Timeline {
  constructor(host, options) {
    this.host = host;
    this.options = options;
    this.gone = new AbortController();
    this.build();
  }

  build() {
    const { result, audioUrl, lang } = this.options;
    this.texts = textsOf(lang);
    const model = modelOf(result, durationOf(result));
    this.model = model;
    this.rows = new Map(); // of the turns, by their place
    this.root = element("div", { class: "emo-timeline", lang: this.texts.tag });
    if (audioUrl) {
      this.audio = element("audio", { preload: "metadata", src: audioUrl });
      this.on(this.audio, "error", () => this.say(this.texts.audioFailed));
    }
    this.note = element("p", { class: "et-note", role: "status" });
    const dress = () => { this.root.dataset.theme = this.options.theme || themeBehind(this.host); };
    dress();
    this.on(window.matchMedia("(prefers-color-scheme: dark)"), "change", () => {
      dress();
      this.stage.measure();
    });
    this.stage = new Stage(this);
    this.root.append(...[
      this.audio, controls(this), this.note, this.stage.box,
      legend(this.texts, model), summary(this.texts, model),
      turnsTable(this.texts, model, {
        play: (turn) => this.seek(turn.start), extra: this.options.extra, rows: this.rows,
      }),
    ].filter(Boolean));
    this.host.replaceChildren(this.root);
    this.tell();
    this.stage.start();
    this.load();
  }

  on(target, name, listener, options = {}) {
    target.addEventListener(name, listener, { ...options, signal: this.gone.signal });
  }

  /** What is not there, and why. */
  tell() {
    const { texts, model } = this;
    if (model.apart) this.say(texts.apart);
    else if (!model.turns.length) this.say(texts.empty);
    if (!this.options.audioUrl) this.say(texts.noAudio);
    if (!this.options.peaksUrl) this.say(texts.noPeaks);
  }

  say(text) {
    if (!this.note.textContent.includes(text)) {
      this.note.textContent = [this.note.textContent, text].filter(Boolean).join(" ");
    }
  }

  async load() {
    const { peaksUrl } = this.options;
    if (!peaksUrl) return;
    const { signal } = this.gone;
    try {
      const reply = await fetch(peaksUrl, { signal });
      if (!reply.ok) throw new Error(`${reply.status} ${reply.statusText}`);
      this.stage.peaks = parsePeaks(await reply.arrayBuffer());
      this.stage.redraw();
    } catch (error) {
      if (!signal.aborted) this.say(this.texts.peaksFailed + error.message);
    }
  }

  get position() {
    return this.audio ? this.audio.currentTime : this.stage.position;
  }

  get playing() {
    return Boolean(this.audio) && !this.audio.paused && !this.audio.ended;
  }

  /** Go to a moment, and play from there unless told otherwise. */
  seek(seconds, { play = true } = {}) {
    const at = Math.max(0, Math.min(this.model.duration, seconds));
    this.stage.position = at;
    if (this.audio) {
      this.audio.currentTime = at;
      if (play) this.play();
    }
    this.stage.show(at);
  }

  play() {
    this.audio?.play().catch((error) => {
      if (error.name !== "AbortError") this.say(this.texts.audioFailed);
    });
  }

  toggle() {
    if (!this.playing) return void this.play();
    this.audio.pause();
    this.stage.say();
  }

  update(options) {
    this.close();
    this.gone = new AbortController();
    this.audio = null;
    this.options = { ...this.options, ...options };
    this.build();
  }

  close() {
    this.gone.abort();
    this.stage.stop();
    if (this.audio) {
      this.audio.pause();
      this.audio.removeAttribute("src");
      this.audio.load();
    }
  }

  destroy() {
    this.close();
    this.root.remove();
    if (mounted.get(this.host) === this) mounted.delete(this.host);
  }
}

/** Whether what is behind an element is dark: so it fits into any page. */
function themeBehind(host) {
  for (let at = host; at instanceof Element; at = at.parentElement) {
    const [red, green, blue, alpha = 1] =
      (getComputedStyle(at).backgroundColor.match(/[\d.]+/g) || []).map(Number);
    if (alpha > 0.5 && red !== undefined) {
      return 0.3 * red + 0.59 * green + 0.11 * blue < 110 ? "dark" : "light";
    }
  }
  const scheme = getComputedStyle(document.documentElement).colorScheme;
  const dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
  return scheme.includes("dark") && dark ? "dark" : "light";
}

/** Show a result in an element; see above. */
export function mount(host, options) {
  mounted.get(host)?.destroy();
  const timeline = new Timeline(host, options);
  mounted.set(host, timeline);
  return timeline;
}

export const EmoTimeline = { mount };
globalThis.EmoTimeline = EmoTimeline;
