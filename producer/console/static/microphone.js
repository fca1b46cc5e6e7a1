// A recording from the microphone, in the browser's own format: Opus in WebM, or AAC in MP4.

import { button, byId, duration, h } from "./dom.js";
import { t } from "./text.js";

const KINDS = [
  ["audio/webm;codecs=opus", "webm"], ["audio/ogg;codecs=opus", "ogg"], ["audio/mp4", "m4a"],
];

/** Why there is no microphone here; "" where there is one. */
export function whyNot() {
  if (!window.isSecureContext) return t("microphoneInsecure", { host: location.host });
  if (!navigator.mediaDevices?.getUserMedia || !window.MediaRecorder) return t("microphoneNone");
  return "";
}

/** Record until it is stopped; `done(file)` gets it, `failed(text)` the reason where it cannot. */
export class Microphone {
  constructor(host, { mostBytes, done, failed }) {
    Object.assign(this, { host, mostBytes, done, failed });
  }

  get recording() {
    return Boolean(this.recorder);
  }

  async start() {
    if (this.recording || this.asking) return;
    this.asking = true;
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    } catch (error) {
      const denied = error.name === "NotAllowedError";
      this.failed(t(denied ? "microphoneDenied" : "microphoneFailed", { why: error.message }));
      return;
    } finally {
      this.asking = false;
    }
    const kind = KINDS.find(([type]) => MediaRecorder.isTypeSupported(type)) || ["", "webm"];
    this.pieces = [];
    this.size = 0;
    this.keep = true;
    this.began = performance.now();
    this.recorder = new MediaRecorder(this.stream, kind[0] ? { mimeType: kind[0] } : {});
    this.recorder.ondataavailable = ({ data }) => {
      this.pieces.push(data);
      this.size += data.size;
      if (this.size > this.mostBytes * 0.95) this.stop();
    };
    this.recorder.onstop = () => this.end(kind[1]);
    this.recorder.start(1000);
    this.show();
  }

  stop() {
    if (this.recorder?.state === "recording") this.recorder.stop();
  }

  discard() {
    this.keep = false;
    this.stop();
  }

  end(suffix) {
    clearInterval(this.timer);
    this.stream.getTracks().forEach((track) => track.stop());
    this.context?.close();
    const pieces = this.pieces;
    this.recorder = null;
    this.pieces = [];
    this.host.hidden = true;
    this.host.replaceChildren();
    byId("record").focus();
    if (!this.keep || !pieces.length) return;
    const at = new Date(Date.now() - new Date().getTimezoneOffset() * 60000);
    const name = `recording-${at.toISOString().slice(0, 19).replace(/[T:]/g, "-")}.${suffix}`;
    this.done(new File(pieces, name, { type: pieces[0].type }));
  }

  show() {
    const clock = h("span", { class: "clock" }, "0.0 s");
    const level = h("span", { class: "level", "aria-hidden": "true" }, h("span", { class: "fill" }));
    const stop = button("stop", () => this.stop(), { class: "main" });
    this.host.replaceChildren(
      h("span", { class: "dot on", "aria-hidden": "true" }),
      h("span", { role: "status" }, t("recordingNow")), clock, level, stop,
      button("discard", () => this.discard()),
    );
    this.host.hidden = false;
    stop.focus();
    this.context = new AudioContext();
    const analyser = this.context.createAnalyser();
    this.context.createMediaStreamSource(this.stream).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    this.timer = setInterval(() => {
      analyser.getFloatTimeDomainData(samples);
      const loudest = samples.reduce((most, one) => Math.max(most, Math.abs(one)), 1e-5);
      const share = Math.max(0, 1 + Math.log10(loudest) / 2.5);
      level.firstChild.style.width = `${100 * Math.min(1, share)}%`;
      clock.textContent = duration((performance.now() - this.began) / 1000);
    }, 100);
  }
}
