// The parts of the live view, made of one look.

import { age, bar, button, bytes, h, number } from "./dom.js";
import { advice, stateName, t } from "./text.js";

const SVG = "http://www.w3.org/2000/svg";
const percent = (share) => (share === null || share === undefined ? "–"
  : t("share", { count: number(100 * share) }));
const sum = (of, name) => of.reduce((total, one) => total + (one[name] || 0), 0);

/** A mean over those workers that tell it, weighted by what they do. */
function mean(workers, name) {
  const told = workers.filter((one) => one[name] !== null && one[name] !== undefined);
  const weight = (one) => (one.clips_a_second || 0) + 1e-6;
  const all = told.reduce((total, one) => total + weight(one), 0);
  return told.length ? told.reduce((total, one) => total + one[name] * weight(one), 0) / all : null;
}

/** The last two minutes of a number, for the eye alone. */
function curve(points) {
  const made = document.createElementNS(SVG, "svg");
  made.setAttribute("viewBox", "0 0 120 28");
  made.setAttribute("preserveAspectRatio", "none");
  made.setAttribute("aria-hidden", "true");
  const most = Math.max(...points, 1e-9);
  const at = (value, place) => `${120 - points.length + place},${27 - (25 * value) / most}`;
  const line = document.createElementNS(SVG, "polyline");
  line.setAttribute("points", points.map(at).join(" "));
  made.append(line);
  return made;
}

export function tiles(found, past) {
  const { lanes: all, workers: some } = found;
  const last = (name) => past[name].at(-1);
  const tile = (key, value, points) => h("div", { class: "tile" },
    h("dt", {}, t(key)), h("dd", {}, value), points ? curve(points) : null);
  const latency = mean(some, "latency_ms");
  // Sums of those that are shown: the others do more.
  const rate = (name) => `${found.workers_total > some.length ? "≥ " : ""}${number(last(name), last(name) < 100 ? 1 : 0)}`;
  return h("dl", { class: "tiles" },
    tile("jobsRate", rate("jobs"), past.jobs),
    tile("audioRate", some.length ? rate("audio") : number(null), past.audio),
    tile("waitingJobs", number(last("waiting")), past.waiting),
    tile("inFlight", number(sum(all, "in_flight"))),
    tile("latency", latency === null ? "–" : t("ms", { count: number(latency) })),
    tile("tapeFill", percent(mean(some, "tape_fill"))));
}

function table(caption, columns, rows, empty = "") {
  const heads = columns.map(([name, kind]) => h("th", { scope: "col", class: kind }, name));
  return h("div", { class: "panel" }, h("h2", {}, caption),
    rows.length ? h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption, "data-key": "table" },
      h("table", {}, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, rows)))
      : h("p", { class: "muted" }, empty));
}

export function lanes(found, pause) {
  const rows = found.lanes.map((lane) => {
    const paused = lane.paused_seconds !== null;
    const key = `pause-${lane.lane}`;
    const act = pause ? button(paused ? "resumeLane" : "pauseLane", () => pause(lane.lane, !paused),
      { class: "small", "data-key": key, "aria-label":
        `${t(paused ? "resumeLane" : "pauseLane")}: ${t(`lane_${lane.lane}`)}` }) : null;
    const counts = ["queued", "in_flight", "delayed", "dead"]
      .map((name) => h("td", { class: "number" }, number(lane[name])));
    return h("tr", { "data-lane": lane.lane }, h("th", { scope: "row" }, t(`lane_${lane.lane}`),
      paused ? h("span", { class: "chip" }, t("paused", { age: age(lane.paused_seconds) })) : null),
      ...counts, h("td", { class: "number" }, age(lane.oldest_queued_seconds)),
      h("td", { class: "end" }, act));
  });
  return table(t("lanes"), [[t("lane"), ""], [t("queued"), "number"], [t("inFlight"), "number"],
    [t("delayed"), "number"], [t("deadLetters"), "number"], [t("oldest"), "number"], ["", ""]], rows);
}

export function workers(found) {
  const alone = (one) => one.host && found.workers.filter(({ host }) => host === one.host).length === 1;
  const rows = found.workers.map((one) => h("tr", { "data-worker": one.name },
    h("th", { scope: "row", title: one.name }, h("span", { class: "name" }, alone(one) ? one.host : one.name),
      h("span", { class: "muted" }, [one.model.split("/").at(-1), one.dtype].filter(Boolean).join(" · "))),
    h("td", {}, h("span", { class: `chip ${one.state}` }, stateName(one.state)),
      one.sickness ? h("span", { class: "sick" }, one.sickness) : null,
      one.silent_seconds > 30 ? h("span", { class: "muted" },
        t("silentFor", { age: age(one.silent_seconds) })) : null),
    h("td", { class: "number" }, number(one.in_flight)),
    h("td", { class: "number" }, number(one.clips_a_second, 1)),
    h("td", { class: "number" }, number(one.audio_seconds_a_second, 1)),
    h("td", { class: "number" }, percent(one.tape_fill)),
    h("td", { class: "busy" }, one.device_share === null ? "–" : [bar(one.device_share), percent(one.device_share)]),
    h("td", {}, one.device || "–", gpu(one))));
  const shown = found.workers.length;
  const caption = found.workers_total > shown
    ? t("workersShown", { shown: number(shown), total: number(found.workers_total) }) : t("workers");
  return table(caption, [[t("worker"), ""], [t("state"), ""], [t("inFlight"), "number"],
    [t("rate"), "number"], [t("audioRate"), "number"], [t("tapeFill"), "number"],
    [t("deviceShare"), ""], [t("device"), ""]], rows, t("noWorkers"));
}

/** What its driver tells of a worker's GPU, and what to change where it is not well used. */
function gpu({ gpu: told }) {
  if (!told) return null;
  const used = told.memory_used_bytes === null ? "" : `${bytes(told.memory_used_bytes)} / ${bytes(told.memory_total_bytes)}`;
  const facts = [told.name, percent(told.utilization), used,
    told.watts === null ? "" : `${number(told.watts)} W`,
    told.celsius === null ? "" : `${number(told.celsius)} °C`, ...told.held_down_by];
  return h("span", { class: "muted" }, facts.filter(Boolean).join(" · "),
    told.verdict ? h("span", { class: "verdict" },
      [told.verdict, told.reason, told.change].filter(Boolean).join(": ")) : null);
}

/** `acts` has what each button does, by what the button says; null where nothing may be changed. */
export function failures(found, acts) {
  const rows = found.causes.map((cause) => {
    const act = (name, count) => {
      if (!acts || !count) return null;
      const made = button(name, () => acts[name](cause.code),
        { class: "small", "data-key": `${name}-${cause.code}` });
      made.textContent = t(name, { count: number(count) });
      return made;
    };
    const newest = cause.newest.slice(0, 3).map((one) => h("a", {
      href: `?job=${encodeURIComponent(one.job)}`, title: one.job, "data-key": `job-${one.job}`,
    }, one.job.length > 14 ? `${one.job.slice(0, 13)}…` : one.job));
    return h("tr", { "data-cause": cause.code }, h("th", { scope: "row" }, h("code", {}, cause.code),
      h("span", { class: "muted" }, advice(cause.code))),
      ...[cause.jobs, cause.waiting].map((count) => h("td", { class: "number" }, number(count))),
      h("td", { class: "links" }, newest),
      h("td", { class: "end" }, act("replayDead", cause.dead), act("cancelWaiting", cause.waiting)));
  });
  return table(t("failures"), [[t("cause"), ""], [t("jobs"), "number"], [t("delayed"), "number"],
    [t("newest"), ""], ["", ""]], rows, t("noFailures"));
}
