// From a result, as docs/wire.md has it, to lanes, turns and shares. Knows nothing of the page.

/** @typedef {{start: number, end: number, label: string, score: number, scores: object,
 *   speaker: ?string, channel: ?number, warning: string}} Turn  Times in seconds. */

/** A list of a result: JSON text, as in the hash, or what it holds. */
function listOf(value) {
  if (typeof value === "string" && value) {
    try {
      value = JSON.parse(value);
    } catch {
      return null;
    }
  }
  return Array.isArray(value) ? value : null;
}

function best(scores) {
  const [label, score] = Object.entries(scores || {}).reduce(
    (most, one) => (one[1] > most[1] ? one : most), ["unknown", -1]);
  return { label, score: Math.max(0, score) };
}

function turn(one, channel) {
  const found = one.label ? { label: one.label, score: Number(one.score) } : best(one.scores);
  return {
    start: Number(one.start_s), end: Number(one.end_s), ...found, scores: one.scores || {},
    speaker: one.speaker ?? null, channel: one.channel ?? channel ?? null,
    warning: one.warning || "",
  };
}

/** Whether it is somewhere; a hash may have been written by anyone. */
function isSound(one) {
  return Number.isFinite(one.start) && one.end > one.start;
}

/** Neighbours with one label as one: the items of a timeline are windows, not turns. */
function runsOf(items) {
  const runs = [];
  for (const item of items) {
    const last = runs.at(-1);
    if (last && last.label === item.label && item.start - last.end < 0.05) {
      const before = last.end - last.start;
      const together = item.end - last.start;
      last.score = (last.score * before + item.score * (together - before)) / together;
      last.end = item.end;
    } else {
      runs.push({ ...item });
    }
  }
  return runs;
}

/** What is known of a channel, or of the whole: its turns, its timeline, or its one label. */
function itemsOf(told, channel, duration) {
  const segments = listOf(told.segments);
  if (segments) {
    const items = segments.map((one) => turn(one, channel)).filter(isSound);
    return { items, runs: items, kind: "segments" };
  }
  const timeline = listOf(told.timeline);
  if (timeline) {
    const items = timeline.map((one) => turn(one, channel)).filter(isSound);
    return { items, runs: runsOf(items), kind: "timeline" };
  }
  if (!told.label) {
    return { items: [], runs: [], kind: "none" };
  }
  let { scores } = told;
  if (typeof scores === "string") {
    try {
      scores = JSON.parse(scores);
    } catch {
      scores = {};
    }
  }
  const items = [turn({ ...told, scores, start_s: 0, end_s: duration }, channel)];
  return { items, runs: items, kind: "whole" };
}

function byStart(a, b) {
  return a.start - b.start || a.end - b.end;
}

/** Finds what is said at a moment: where several overlap, what began last; null for nothing. */
class Spans {
  constructor(items) {
    this.items = [...items].sort(byStart);
    let reach = 0;
    this.reach = this.items.map((one) => (reach = Math.max(reach, one.end)));
  }

  at(seconds) {
    let low = 0;
    let high = this.items.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.items[middle].start <= seconds) low = middle + 1;
      else high = middle;
    }
    for (let at = low - 1; at >= 0 && this.reach[at] > seconds; at -= 1) {
      if (this.items[at].end > seconds) return this.items[at];
    }
    return null;
  }
}

function laneOf(found, about) {
  return { ...about, kind: found.kind, items: new Spans(found.items), runs: new Spans(found.runs) };
}

/** Lanes of segments: one a channel where those are told, else one a speaker. */
function grouped(found) {
  const hasChannels = found.items.some((one) => one.channel !== null);
  const key = (one) => (hasChannels ? one.channel : one.speaker);
  const groups = new Map();
  for (const one of found.items) {
    groups.set(key(one), [...(groups.get(key(one)) || []), one]);
  }
  if (groups.size < 2 && !hasChannels) {
    return [laneOf(found, { channel: null, bySpeaker: false })];
  }
  return [...groups].map(([value, items]) =>
    laneOf({ items, runs: items, kind: found.kind },
      { channel: hasChannels ? value : null, bySpeaker: !hasChannels }))
    .sort((a, b) => (hasChannels ? (a.channel ?? -1) - (b.channel ?? -1) : 0));
}

/** The one speaker of a lane, or null. */
function speakerOf(lane) {
  const names = new Set(lane.items.items.map((one) => one.speaker));
  return names.size === 1 ? [...names][0] : null;
}

/**
 * What is shown of a result.
 * @returns {{duration: number, lanes: object[], turns: Turn[], kind: string, apart: boolean}}
 */
export function modelOf(result, duration) {
  const channels = listOf(result.channels);
  let lanes;
  if (channels && channels.length) {
    lanes = channels.map((one) =>
      laneOf(itemsOf(one, one.channel, duration), { channel: one.channel, bySpeaker: false }));
  } else {
    const found = itemsOf(result, null, duration);
    lanes = found.kind === "segments" ? grouped(found)
      : [laneOf(found, { channel: null, bySpeaker: false })];
  }
  if (result.label && lanes.every((lane) => !lane.items.items.length)) {
    // Where nobody speaks, the label is that of the whole recording.
    const { label, score, scores } = result;
    lanes = [laneOf(itemsOf({ label, score, scores }, null, duration), { channel: null, bySpeaker: false })];
  }
  for (const lane of lanes) lane.speaker = speakerOf(lane);
  const turns = lanes.flatMap((lane) => lane.runs.items).sort(byStart);
  turns.forEach((one, index) => { one.index = index; });
  const apart = ["segments", "channels", "timeline"].some(
    (name) => result[`${name}_key`] && !listOf(result[name]));
  return { duration, lanes, turns, kind: lanes[0] ? lanes[0].kind : "none", apart };
}

/** Where the last item ends: of a result that does not tell how long the recording is. */
export function durationOf(result) {
  const told = Number(result.duration_s);
  if (told > 0) return told;
  const lists = [result, ...(listOf(result.channels) || [])]
    .flatMap((one) => [listOf(one.segments), listOf(one.timeline)]).filter(Boolean);
  return lists.flat().reduce((most, one) => Math.max(most, Number(one.end_s) || 0), 0);
}

/** Seconds of each label between two moments, and of all of them. */
function shares(turns, from, until) {
  const seconds = new Map();
  let total = 0;
  for (const one of turns) {
    const length = Math.min(one.end, until) - Math.max(one.start, from);
    if (length > 0) {
      seconds.set(one.label, (seconds.get(one.label) || 0) + length);
      total += length;
    }
  }
  const parts = [...seconds].map(([label, length]) => ({ label, share: length / total }))
    .sort((a, b) => b.share - a.share);
  return { total, parts };
}

/** A row for each speaker, or each channel where nobody is named; and the share of each label. */
export function summaryOf(model) {
  const rows = new Map();
  for (const one of model.turns) {
    const key = JSON.stringify([one.speaker, one.speaker === null ? one.channel : null]);
    if (!rows.has(key)) rows.set(key, { speaker: one.speaker, channel: one.channel, turns: [] });
    rows.get(key).turns.push(one);
  }
  const { duration } = model;
  return [...rows.values()].map((row) => ({
    ...row,
    whole: shares(row.turns, 0, duration),
    opening: shares(row.turns, 0, duration / 4),
    closing: shares(row.turns, 0.75 * duration, duration),
  }));
}

/** Share of each label in all turns. */
export function legendOf(model) {
  return shares(model.turns, 0, Math.max(model.duration, 1e-9)).parts;
}
