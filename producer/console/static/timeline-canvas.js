// Draws the lanes, the time axis and the overview. Sizes in CSS pixels; knows of no events.

import { clock, labelText } from "./timeline-text.js";

export const LANE = { height: 108, name: 24, strip: 18, gap: 6, wave: 54 };
export const AXIS_HEIGHT = 24;
export const OVERVIEW_HEIGHT = 34;

const BAR = { step: 3, width: 2 };
const TICKS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
const TICK_PIXELS = 76;
const QUIET = 0.05; // what is below is not blown up to look loud

/** How opaque something is that is so likely: never so pale that its colour is lost. */
export function opacityOf(score) {
  return 0.35 + 0.65 * Math.max(0, Math.min(1, score));
}

/** A canvas as sharp as the screen, ready to be drawn anew. */
export function prepared(canvas, width, height) {
  const scale = window.devicePixelRatio || 1;
  const [pixels, lines] = [Math.max(1, Math.round(width * scale)), Math.round(height * scale)];
  if (canvas.width !== pixels || canvas.height !== lines) {
    canvas.width = pixels;
    canvas.height = lines;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

/** All lanes between `view.start` seconds and as far as `view.width` goes. */
export function drawLanes(context, view) {
  context.font = view.font;
  context.textBaseline = "middle";
  axis(context, view);
  view.model.lanes.forEach((lane, at) => {
    const top = at * LANE.height;
    if (at) line(context, view.colours.line, 0, top - 0.5, view.width);
    strip(context, view, lane, top + LANE.name);
    wave(context, view, lane, top + LANE.name + LANE.strip + LANE.gap);
  });
}

function line(context, colour, x, y, width) {
  context.fillStyle = colour;
  context.fillRect(x, y, width, 1);
}

/** The labels of a lane's turns, in words where there is room for them. */
function strip(context, view, lane, top) {
  const { start, perSecond, width, colours, texts } = view;
  let drawnTo = -Infinity;
  for (const run of lane.runs.items) {
    const left = (run.start - start) * perSecond;
    const right = (run.end - start) * perSecond;
    if (right < 0 || left > width) continue;
    if (right < drawnTo + 1 && right - left < 1) continue; // of an hour, many share a pixel
    drawnTo = right;
    const from = Math.max(left, -4);
    const wide = Math.max(1.5, Math.min(right, width + 4) - from - 1);
    context.globalAlpha = 0.22 * opacityOf(run.score) + 0.04;
    context.fillStyle = colours.of(run.label);
    box(context, from, top, wide, LANE.strip);
    context.globalAlpha = opacityOf(run.score);
    box(context, from, top, Math.min(3, wide), LANE.strip);
    context.globalAlpha = 1;
    const text = labelText(texts, run.label);
    const room = wide - 12;
    if (room > 14 && context.measureText(text).width <= room) {
      context.fillStyle = colours.text;
      context.fillText(text, Math.max(from, 0) + 7, top + LANE.strip / 2 + 0.5);
    }
  }
}

function box(context, x, y, width, height) {
  if (width < 4) {
    context.fillRect(x, y, width, height);
    return;
  }
  context.beginPath();
  context.roundRect(x, y, width, height, Math.min(3, width / 2));
  context.fill();
}

/** A bar for every three pixels: lowest to highest sample, in the colour of the label there. */
function wave(context, view, lane, top) {
  const { start, perSecond, width, colours, peaks, model } = view;
  const middle = top + LANE.wave / 2;
  const seconds = BAR.step / perSecond;
  const gain = peaks ? 0.96 / Math.max(peaks.loudest, QUIET) : 1;
  const first = Math.floor(start / seconds);
  const last = Math.min(Math.ceil(model.duration / seconds), Math.ceil(first + width / BAR.step) + 1);
  for (let bar = Math.max(0, first); bar < last; bar += 1) {
    const from = bar * seconds;
    const item = lane.items.at(Math.min(from + seconds / 2, model.duration - 1e-6));
    let [low, high] = [item ? -0.3 : 0, item ? 0.3 : 0];
    if (peaks) {
      [low, high] = peaks.between(lane.channel, from, from + seconds).map((value) =>
        Math.max(-1, Math.min(1, value * gain)));
    }
    const half = LANE.wave / 2;
    const above = Math.max(0.75, high * half);
    const below = Math.max(0.75, -low * half);
    context.fillStyle = item ? colours.of(item.label) : colours.quiet;
    context.globalAlpha = item ? opacityOf(item.score) : lane.bySpeaker ? 0.35 : 0.8;
    context.fillRect((from - start) * perSecond, middle - above, BAR.width, above + below);
  }
  context.globalAlpha = 1;
}

function axis(context, view) {
  const { start, perSecond, width, height, colours, model } = view;
  const top = height - AXIS_HEIGHT;
  line(context, colours.line, 0, top, width);
  const step = TICKS.find((one) => one * perSecond >= TICK_PIXELS) || 7200;
  const end = Math.min(model.duration, start + width / perSecond);
  for (let number = Math.floor(start / step); number * step <= end; number += 1) {
    const seconds = number * step;
    const x = (seconds - start) * perSecond;
    context.fillStyle = colours.line;
    context.fillRect(Math.round(x), 0, 1, top + 5);
    const text = clock(seconds, { tenths: step < 1 });
    if (x + 4 + context.measureText(text).width < width && x >= -1) {
      context.fillStyle = colours.muted;
      context.fillText(text, x + 5, top + AXIS_HEIGHT / 2 + 2);
    }
  }
}

/** The whole recording, a stripe a lane, and what of it is in view. */
export function drawOverview(context, view) {
  const { width, model, colours, start, shown } = view;
  const stripe = (OVERVIEW_HEIGHT - 2) / model.lanes.length;
  const scale = width / model.duration;
  model.lanes.forEach((lane, at) => {
    line(context, colours.line, 0, 1 + (at + 0.5) * stripe, width);
    for (const run of lane.runs.items) {
      context.globalAlpha = opacityOf(run.score);
      context.fillStyle = colours.of(run.label);
      const long = Math.max(1, (run.end - run.start) * scale);
      context.fillRect(run.start * scale, 2 + at * stripe, long, Math.max(2, stripe - 2));
    }
  });
  context.globalAlpha = 1;
  context.fillStyle = colours.veil;
  context.fillRect(0, 0, start * scale, OVERVIEW_HEIGHT);
  context.fillRect((start + shown) * scale, 0, width, OVERVIEW_HEIGHT);
  context.strokeStyle = colours.accent;
  context.lineWidth = 2;
  context.strokeRect(start * scale + 1, 1, Math.max(2, shown * scale - 2), OVERVIEW_HEIGHT - 2);
}
