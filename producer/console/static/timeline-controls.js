// The bar above the lanes: play, where it is, how fast, and zoom.

import { clock } from "./timeline-text.js";
import { element } from "./timeline-tables.js";

const SPEEDS = [0.75, 1, 1.25, 1.5, 2];
const SHAPES = {
  play: "M8 5.5v13l11-6.5z",
  pause: "M7 5h4v14H7zM13 5h4v14h-4z",
  out: "M5 11h14v2H5z",
  in: "M11 5h2v6h6v2h-6v6h-2v-6H5v-2h6z",
  fit: "M4 5h2v14H4zM18 5h2v14h-2zM7 12l4-4v3h2V8l4 4-4 4v-3h-2v3z",
};

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", SHAPES[name]);
  svg.append(path);
  return svg;
}

function button(name, title, click) {
  const made = element("button", { type: "button", class: "et-button", title, "aria-label": title },
    icon(name));
  made.addEventListener("click", click);
  return made;
}

/** The bar of a timeline. It follows its audio and its stage. */
export function controls(timeline) {
  const { texts, stage, audio, model } = timeline;
  const play = button("play", texts.play, () => timeline.toggle());
  play.classList.add("et-play");
  play.disabled = !audio;
  const tenths = model.duration < 3600;
  const time = element("span", { class: "et-time" });
  const all = clock(model.duration, { tenths });
  const told = () => {
    time.textContent = `${clock(timeline.position, { tenths })} / ${all}`;
  };
  const speed = element("select", { class: "et-speed", "aria-label": texts.speed, title: texts.speed },
    ...SPEEDS.map((rate) => element("option", { value: rate }, `${rate}×`)));
  speed.value = "1";
  speed.disabled = !audio;
  timeline.on(speed, "change", () => { audio.playbackRate = Number(speed.value); });
  const look = () => {
    const name = timeline.playing ? "pause" : "play";
    play.replaceChildren(icon(name));
    play.title = texts[name];
    play.setAttribute("aria-label", texts[name]);
    stage.follow();
  };
  if (audio) {
    for (const name of ["play", "pause", "ended"]) timeline.on(audio, name, look);
    for (const name of ["timeupdate", "seeked"]) timeline.on(audio, name, told);
  }
  stage.moved = told;
  told();

  const zoom = element("input", {
    type: "range", min: 0, max: 100, step: 1, value: 0, class: "et-zoom", "aria-label": texts.zoom,
  });
  timeline.on(zoom, "input", () => stage.zoomTo(Number(zoom.value) / 100));
  const fit = button("fit", texts.fit, () => stage.zoomTo(0));
  fit.classList.add("et-fit");
  const out = button("out", texts.zoomOut, () => stage.zoomBy(1 / 1.6));
  const into = button("in", texts.zoomIn, () => stage.zoomBy(1.6));
  stage.zoomed = (share) => {
    zoom.value = String(Math.round(100 * share));
    out.disabled = fit.disabled = share <= 0;
    into.disabled = share >= 1;
  };
  return element("div", { class: "et-bar" }, play, time, speed,
    element("span", { class: "et-space" }), out, zoom, into, fit);
}
