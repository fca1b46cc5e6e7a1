// The lanes on the page: what of them is in view, the playhead, pointer and keyboard.

import {
  AXIS_HEIGHT, LANE, OVERVIEW_HEIGHT, drawLanes, drawOverview, prepared,
} from "./timeline-canvas.js";
import { cssName, element, nameOf } from "./timeline-tables.js";
import { clock, labelText, percent } from "./timeline-text.js";

const MOST_PER_SECOND = 400; // pixels: a syllable fills the screen
const HANDS_OFF_MS = 2500; // who has scrolled is not scrolled away from there

export class Stage {
  constructor(timeline) {
    this.timeline = timeline;
    this.peaks = null;
    this.position = 0;
    this.factor = 1; // 1 is the whole recording in view
    this.scrolledAt = -Infinity;
    this.frame = 0;
    this.stale = false;
    this.moved = () => {};
    this.zoomed = () => {};
    const { model, texts } = timeline;
    this.height = model.lanes.length * LANE.height + AXIS_HEIGHT;
    this.canvas = element("canvas", { class: "et-canvas", "aria-hidden": "true" });
    this.spacer = element("div", { class: "et-spacer", style: `height: ${this.height}px` });
    this.head = element("div", { class: "et-head", "aria-hidden": "true" });
    this.tip = element("div", { class: "et-tip", role: "presentation" });
    this.tip.hidden = true;
    this.scroll = element("div", {
      class: "et-scroll", tabindex: 0, role: "slider", "aria-label": texts.position,
      "aria-description": texts.keys, "aria-valuemin": 0, "aria-valuemax": model.duration.toFixed(1),
    }, this.spacer);
    this.overview = element("canvas", { class: "et-overview", "aria-hidden": "true" });
    this.overview.hidden = true;
    const names = model.lanes.map((lane, at) =>
      element("div", { class: "et-name", style: `top: ${at * LANE.height + 3}px` },
        ...laneName(texts, lane)));
    this.box = element("div", { class: "et-box" }, this.overview,
      element("div", { class: "et-stage" }, this.scroll, this.canvas, ...names, this.head, this.tip),
      element("p", { class: "et-keys et-muted", "aria-hidden": "true" }, texts.keys));
    this.listen();
  }

  get perSecond() {
    return (this.width * this.factor) / Math.max(this.timeline.model.duration, 1e-3);
  }

  get mostFactor() {
    return Math.max(1, (MOST_PER_SECOND * this.timeline.model.duration) / Math.max(this.width, 1));
  }

  listen() {
    const { timeline, scroll } = this;
    timeline.on(scroll, "scroll", () => this.redraw());
    timeline.on(scroll, "click", (event) => {
      scroll.focus({ preventScroll: true });
      timeline.seek(this.secondsAt(event.clientX));
    });
    timeline.on(scroll, "keydown", (event) => this.key(event));
    timeline.on(scroll, "pointermove", (event) => this.point(event));
    timeline.on(scroll, "pointerleave", () => { this.tip.hidden = true; });
    const scrolled = () => { this.scrolledAt = performance.now(); };
    timeline.on(scroll, "wheel", (event) => {
      scrolled();
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      this.zoomBy(Math.exp(-event.deltaY / 200), this.secondsAt(event.clientX));
    }, { passive: false });
    timeline.on(scroll, "touchmove", scrolled, { passive: true });
    const drag = (event) => {
      if (event.type === "pointermove" && !event.buttons) return;
      const edges = this.overview.getBoundingClientRect();
      const share = (event.clientX - edges.left) / edges.width;
      scrolled();
      scroll.scrollLeft = share * this.width * this.factor - this.width / 2;
    };
    timeline.on(this.overview, "pointerdown", (event) => {
      this.overview.setPointerCapture(event.pointerId);
      drag(event);
    });
    timeline.on(this.overview, "pointermove", drag);
  }

  /** To be called once the box is on the page. */
  start() {
    this.sizes = new ResizeObserver(() => this.measure());
    this.sizes.observe(this.scroll);
    this.measure();
    this.say();
  }

  stop() {
    this.sizes?.disconnect();
    cancelAnimationFrame(this.frame);
    this.frame = 0;
  }

  measure() {
    this.width = this.scroll.clientWidth;
    this.colours = coloursOf(this.timeline.root);
    this.zoom(this.factor, this.position);
  }

  /** A share of 1 is as near as it goes, 0 the whole recording. */
  zoomTo(share) {
    this.zoom(this.mostFactor ** share);
  }

  zoomBy(times, around) {
    this.zoom(this.factor * times, around);
  }

  zoom(factor, around = this.middle) {
    const before = (around - this.firstSecond) * this.perSecond;
    this.factor = Math.max(1, Math.min(this.mostFactor, factor));
    this.spacer.style.width = `${this.width * this.factor}px`;
    this.scroll.scrollLeft = around * this.perSecond - before;
    this.overview.hidden = this.factor <= 1;
    this.zoomed(this.mostFactor > 1 ? Math.log(this.factor) / Math.log(this.mostFactor) : 0);
    this.redraw();
  }

  get firstSecond() {
    return this.scroll.scrollLeft / this.perSecond || 0;
  }

  /** Around what the buttons zoom: the playhead where that is in view. */
  get middle() {
    const shown = this.width / this.perSecond;
    const at = this.timeline.position - this.firstSecond;
    return at >= 0 && at <= shown ? this.timeline.position : this.firstSecond + shown / 2;
  }

  secondsAt(clientX) {
    return this.firstSecond + (clientX - this.scroll.getBoundingClientRect().left) / this.perSecond;
  }

  redraw() {
    this.stale = true;
    this.tick();
  }

  /** With the next frame: the playhead, and all else only where that has changed. */
  tick() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      if (this.stale) this.draw();
      this.place();
      if (this.timeline.playing) this.follow();
    });
  }

  draw() {
    this.stale = false;
    const { timeline, width, height, peaks, colours } = this;
    const { model, texts } = timeline;
    if (!width || !model.duration) return;
    const start = this.firstSecond;
    const view = {
      start, width, height, peaks, colours, model, texts, perSecond: this.perSecond,
      font: `12px ${getComputedStyle(timeline.root).fontFamily}`,
    };
    drawLanes(prepared(this.canvas, width, height), view);
    if (!this.overview.hidden) {
      const context = prepared(this.overview, width, OVERVIEW_HEIGHT);
      drawOverview(context, { ...view, shown: width / this.perSecond });
    }
  }

  /** The playhead, and the turn that it is in. */
  place() {
    const { timeline } = this;
    if (timeline.audio) this.position = timeline.position;
    const x = (this.position - this.firstSecond) * this.perSecond;
    this.head.hidden = x < 0 || x > this.width;
    this.head.style.transform = `translateX(${x}px)`;
    this.head.style.height = `${this.height - AXIS_HEIGHT}px`;
    const now = timeline.model.lanes.map((lane) => lane.runs.at(this.position)).filter(Boolean);
    const rows = timeline.root.querySelectorAll("tr[aria-current]");
    for (const row of rows) {
      if (!now.some((turn) => String(turn.index) === row.dataset.turn)) row.removeAttribute("aria-current");
    }
    for (const turn of now) timeline.rows.get(turn.index)?.setAttribute("aria-current", "true");
  }

  /** While it plays: frame by frame, and the page turned where the playhead leaves it. */
  follow() {
    if (this.timeline.playing && performance.now() - this.scrolledAt > HANDS_OFF_MS) {
      this.show(this.timeline.position);
    }
    this.tick();
  }

  show(seconds) {
    const x = (seconds - this.firstSecond) * this.perSecond;
    if (x < 0 || x > 0.95 * this.width) {
      this.scroll.scrollLeft = seconds * this.perSecond - 0.1 * this.width;
    }
    this.say();
    this.tick();
  }

  /** For who hears the page: where it is, and who speaks there how. */
  say() {
    const { texts, model } = this.timeline;
    const seconds = this.position;
    const heard = model.lanes.map((lane) => lane.items.at(seconds)).filter(Boolean)
      .map((item) => `${nameOf(texts, item)}: ${labelText(texts, item.label)}`);
    // While it plays only who speaks: where it is would be read aloud over all of it.
    const spoken = heard.join(", ");
    const goesOn = this.timeline.playing && spoken === this.heard;
    this.heard = spoken;
    if (goesOn) return void this.moved();
    const where = texts.of(clock(seconds), clock(model.duration));
    this.scroll.setAttribute("aria-valuenow", seconds.toFixed(1));
    this.scroll.setAttribute("aria-valuetext", [where, ...heard].join(", "));
    this.moved();
  }

  key(event) {
    const { timeline } = this;
    const step = event.shiftKey ? 10 : 1;
    const go = (seconds) => timeline.seek(seconds, { play: false });
    const { turns, duration } = timeline.model;
    const actions = {
      " ": () => timeline.toggle(),
      ArrowLeft: () => go(timeline.position - step),
      ArrowRight: () => go(timeline.position + step),
      ArrowDown: () => go((turns.find((one) => one.start > timeline.position + 0.05) || { start: duration }).start),
      ArrowUp: () => go((turns.findLast((one) => one.start < timeline.position - 0.05) || { start: 0 }).start),
      Home: () => go(0),
      End: () => go(duration),
      "+": () => this.zoomBy(1.6),
      "=": () => this.zoomBy(1.6),
      "-": () => this.zoomBy(1 / 1.6),
      0: () => this.zoomTo(0),
    };
    if (!(event.key in actions) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    actions[event.key]();
  }

  /** What is under the pointer, in words. */
  point(event) {
    const { texts, model } = this.timeline;
    const edges = this.scroll.getBoundingClientRect();
    const lane = model.lanes[Math.floor((event.clientY - edges.top) / LANE.height)];
    const item = lane ? lane.items.at(this.secondsAt(event.clientX)) : null;
    this.tip.hidden = !item || event.pointerType === "touch";
    if (this.tip.hidden) return;
    this.tip.textContent = `${clock(item.start)} – ${clock(item.end)}  ${nameOf(texts, item)}: `
      + `${labelText(texts, item.label)} ${percent(item.score)}`;
    const x = Math.min(event.clientX - edges.left + 12, this.width - this.tip.offsetWidth - 4);
    this.tip.style.transform = `translate(${Math.max(4, x)}px, ${event.clientY - edges.top + 16}px)`;
  }
}

function laneName(texts, lane) {
  if (lane.speaker && lane.channel !== null) {
    return [lane.speaker, element("span", { class: "et-muted" }, ` ${texts.channel(lane.channel)}`)];
  }
  if (lane.bySpeaker) return [lane.speaker || texts.nobody];
  return [nameOf(texts, lane)];
}

/** The colours that the style sheet has for this theme. */
function coloursOf(root) {
  const style = getComputedStyle(root);
  const of = (name) => style.getPropertyValue(`--et-${name}`).trim();
  const known = new Map();
  return {
    of: (label) => {
      if (!known.has(label)) known.set(label, of(cssName(label)));
      return known.get(label);
    },
    text: of("text"), muted: of("muted"), line: of("line"), quiet: of("quiet"), veil: of("veil"),
    accent: of("accent"),
  };
}
