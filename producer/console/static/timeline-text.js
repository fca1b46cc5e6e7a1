// What the timeline says, in English and Chinese, and how it calls and colours the nine labels.

export const LABELS = [
  "angry", "disgusted", "fearful", "happy", "neutral", "other", "sad", "surprised", "unknown",
];

const ENGLISH = {
  tag: "en",
  labels: {},
  play: "Play", pause: "Pause", speed: "Speed",
  zoomIn: "Zoom in", zoomOut: "Zoom out", fit: "Whole recording", zoom: "Zoom",
  position: "Position in the recording",
  keys: "Space plays and pauses, left and right go a second, up and down a turn, + and − zoom.",
  of: (at, all) => `${at} of ${all}`,
  from: "from", to: "to", range: (start, end) => `from ${start} to ${end}`,
  channel: (number) => `Channel ${number}`,
  mix: "Recording", nobody: "Nobody named",
  turns: "Turns", when: "When", who: "Who", label: "Label", sure: "How sure", also: "Next likely",
  summary: "By speaker", overall: "Overall", moments: "Moments", speaks: "Speaks", share: "Share of each label",
  opening: "First quarter", closing: "Last quarter", silentThen: "says nothing",
  change: (first, last) => `${first} in the first quarter, ${last} in the last`,
  more: (left) => `Show more (${left} left)`,
  legend: "Labels", sureness: "The paler, the less sure",
  noAudio: "Nothing to play: this job was sent without want=preview.",
  noPeaks: "No waveform: this job was sent without want=peaks.",
  audioFailed: "The preview cannot be played: it is not there any more, or did not arrive.",
  peaksFailed: "The waveform did not arrive: ",
  empty: "Nothing was found to show: no segment, and no timeline.",
  apart: "The list of turns is too long for the result itself, and did not come with it.",
};

const CHINESE = {
  tag: "zh",
  labels: {
    angry: "生气", disgusted: "厌恶", fearful: "恐惧", happy: "开心", neutral: "中立", other: "其他",
    sad: "难过", surprised: "吃惊", unknown: "未知",
  },
  play: "播放", pause: "暂停", speed: "速度",
  zoomIn: "放大", zoomOut: "缩小", fit: "显示全部", zoom: "缩放",
  position: "录音中的位置",
  keys: "空格键播放或暂停，左右键移动一秒，上下键切换话轮，+ 和 − 缩放。",
  of: (at, all) => `${at} / ${all}`,
  from: "从", to: "到", range: (start, end) => `从 ${start} 到 ${end}`,
  channel: (number) => `声道 ${number}`,
  mix: "录音", nobody: "未注明",
  turns: "话轮", when: "时间", who: "说话人", label: "标签", sure: "把握", also: "其次",
  summary: "按说话人", overall: "总体", moments: "片段", speaks: "发言时长", share: "各标签占比",
  opening: "前四分之一", closing: "后四分之一", silentThen: "没有发言",
  change: (first, last) => `前四分之一${first}，后四分之一${last}`,
  more: (left) => `显示更多（还有 ${left} 条）`,
  legend: "标签", sureness: "颜色越浅，把握越小",
  noAudio: "无法播放：提交任务时没有 want=preview。",
  noPeaks: "没有波形：提交任务时没有 want=peaks。",
  audioFailed: "无法播放预览：文件已不存在，或没有送达。",
  peaksFailed: "波形没有送达：",
  empty: "没有可显示的内容：既没有片段，也没有时间线。",
  apart: "话轮列表太长，没有随结果一起送达。",
};

/** The texts of a language, by its tag: `zh`, `zh-CN` … are Chinese, all else is English. */
export function textsOf(lang) {
  return /^zh\b/i.test(lang || "") ? CHINESE : ENGLISH;
}

/** A label as people of that language call it. */
export function labelText(texts, label) {
  return texts.labels[label] || label;
}

/** Seconds as `0:07.3`, `12:07.3` or `1:02:07`; of what is an hour long, whole seconds. */
export function clock(seconds, { tenths = true } = {}) {
  const units = tenths ? 10 : 1;
  const total = Math.max(0, Math.round(seconds * units)) / units;
  const hours = Math.floor(total / 3600);
  const minutes = Math.floor((total % 3600) / 60);
  const rest = (total % 60).toFixed(tenths ? 1 : 0).padStart(tenths ? 4 : 2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

/** A share of 1 in percent. */
export function percent(share) {
  return `${Math.round(100 * share)}\u00a0%`;
}
