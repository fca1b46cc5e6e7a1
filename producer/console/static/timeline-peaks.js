// Peaks as a worker writes them: audiowaveform's data format, version 2, of 8 bits. And each
// coarser level of them, so that an hour is drawn as quickly as a second.

const HEADER_BYTES = 24;
const EIGHT_BITS = 1;

/**
 * @param {ArrayBuffer} buffer
 * @returns {Peaks} Throws Error for what is none.
 */
export function parsePeaks(buffer) {
  const view = new DataView(buffer);
  if (buffer.byteLength < HEADER_BYTES || view.getInt32(0, true) !== 2
      || !(view.getUint32(4, true) & EIGHT_BITS)) {
    throw new Error("not audiowaveform data, version 2, of 8 bits");
  }
  const [rate, samples, length, channels] = [8, 12, 16, 20].map((at) => view.getUint32(at, true));
  if (!rate || !samples || !channels || buffer.byteLength < HEADER_BYTES + 2 * length * channels) {
    throw new Error("audiowaveform data that is cut off");
  }
  const values = new Int8Array(buffer, HEADER_BYTES, 2 * length * channels);
  const pick = (channel, which) =>
    Int8Array.from({ length }, (_, at) => values[2 * (at * channels + channel) + which]);
  const lanes = Array.from({ length: channels }, (_, channel) =>
    pyramid({ low: pick(channel, 0), high: pick(channel, 1) }));
  return new Peaks(lanes, samples / rate);
}

function pyramid(level) {
  const levels = [level];
  while (levels.at(-1).low.length > 256) {
    const { low, high } = levels.at(-1);
    const length = Math.ceil(low.length / 2);
    const at = (values, where) => values[Math.min(where, values.length - 1)];
    levels.push({
      low: Int8Array.from({ length }, (_, k) => Math.min(low[2 * k], at(low, 2 * k + 1))),
      high: Int8Array.from({ length }, (_, k) => Math.max(high[2 * k], at(high, 2 * k + 1))),
    });
  }
  return levels;
}

export class Peaks {
  constructor(lanes, binSeconds) {
    this.lanes = lanes;
    this.binSeconds = binSeconds;
    this.loudest = Math.max(4, ...lanes.map((levels) => {
      const { low, high } = levels.at(-1);
      return Math.max(...high, -Math.min(0, ...low));
    })) / 128;
  }

  get channels() {
    return this.lanes.length;
  }

  /** Lowest and highest in [start, end) seconds, of -1 to 1; of all channels where it is null. */
  between(channel, start, end) {
    const chosen = channel !== null && channel < this.lanes.length ? [this.lanes[channel]] : this.lanes;
    let least = 0;
    let most = 0;
    for (const levels of chosen) {
      const bins = (end - start) / this.binSeconds;
      const number = Math.max(0, Math.min(levels.length - 1, Math.floor(Math.log2(bins / 2))));
      const { low, high } = levels[number];
      const seconds = this.binSeconds * 2 ** number;
      const last = Math.min(low.length, Math.max(Math.ceil(end / seconds), Math.floor(start / seconds) + 1));
      for (let at = Math.max(0, Math.floor(start / seconds)); at < last; at += 1) {
        least = Math.min(least, low[at]);
        most = Math.max(most, high[at]);
      }
    }
    return [least / 128, most / 128];
  }
}
