// The page: what it may do here, which batch it shows, and its two views.

import { ask } from "./api.js";
import { DARK } from "./card.js";
import { byId, bytes, number } from "./dom.js";
import { Live } from "./live.js";
import { Microphone, whyNot } from "./microphone.js";
import { Recordings } from "./recordings.js";
import { onLanguage, reason, switchLanguage, t } from "./text.js";
import { newId } from "./uploader.js";

const VIEWS = ["recordings", "live"];
const SAID_AT_ONCE = 5; // of files that are not taken
const asked = new URLSearchParams(location.search);
const batch = asked.get("batch") || `web-${newId().slice(0, 20)}`;

let turns = "";

function say(text, wrong = false) {
  const banner = byId("banner");
  if (banner.textContent !== text) banner.textContent = text; // it is read aloud each time
  banner.hidden = !text;
  banner.classList.toggle("wrong", wrong);
}

let isDown = false;

function down(error) {
  isDown = true;
  const key = { redis_away: "redisAway", storage_unavailable: "storeAway", login: "loginAgain" };
  const refused = error.passing === false && !key[error.code];
  say(refused ? reason(error) : t(key[error.code] || "noAnswer"), true);
}

function up() {
  if (isDown) say("");
  isDown = false;
}

function show(view, focus = false) {
  for (const name of VIEWS) {
    const tab = byId(`tab-${name}`);
    tab.setAttribute("aria-selected", String(name === view));
    tab.tabIndex = name === view ? 0 : -1;
    byId(name).hidden = name !== view;
  }
  if (focus) byId(`tab-${view}`).focus();
  live.watch(view === "live");
}

function tabs() {
  for (const [place, name] of VIEWS.entries()) {
    const tab = byId(`tab-${name}`);
    tab.addEventListener("click", () => {
      const { pathname, search } = location;
      history.replaceState(null, "", pathname + search + (name === "live" ? "#live" : ""));
      show(name);
    });
    tab.addEventListener("keydown", ({ key }) => {
      if (key === "ArrowLeft" || key === "ArrowRight") show(VIEWS[1 - place], true);
    });
  }
  addEventListener("hashchange", () => show(location.hash === "#live" ? "live" : "recordings"));
}

function options() {
  const segments = byId("segments").value;
  return {
    channel: byId("channel").value,
    segments: segments === "file" ? turns : segments,
    want: byId("waveform").checked ? "peaks,preview" : "",
  };
}

function send(files) {
  if (!files.length) return;
  if (!asked.has("batch")) {
    asked.set("batch", batch);
    asked.delete("job");
    history.replaceState(null, "", `?${asked}${location.hash}`);
  }
  const wrong = [...new Set(recordings.add([...files], options()))];
  const said = wrong.slice(0, SAID_AT_ONCE);
  if (wrong.length > said.length) said.push(t("andMore", { count: number(wrong.length - said.length) }));
  say(said.join(" "), said.length > 0);
}

function sending() {
  const files = byId("files");
  const drop = byId("drop");
  byId("choose").addEventListener("click", () => files.click());
  files.addEventListener("change", () => {
    send(files.files);
    files.value = "";
  });
  let depth = 0;
  const over = (change) => {
    depth = Math.max(0, depth + change);
    drop.classList.toggle("over", depth > 0);
  };
  addEventListener("dragenter", () => over(1));
  addEventListener("dragleave", () => over(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    over(0);
    send(event.dataTransfer.files);
  });
  const microphone = new Microphone(byId("recorder"), {
    mostBytes: about.max_file_bytes, done: (file) => send([file]), failed: (text) => say(text, true),
  });
  byId("record").addEventListener("click", () => microphone.start());
  byId("segments").addEventListener("change", () => {
    byId("turns-said").textContent = "";
    if (byId("segments").value === "file") byId("turns-file").click();
  });
  byId("turns-file").addEventListener("change", readTurns);
  byId("turns-file").addEventListener("cancel", () => { if (!turns) byId("segments").value = ""; });
  addEventListener("beforeunload", (event) => {
    if (recordings.uploader.busy || microphone.recording) event.preventDefault();
  });
}

/** A list of turns for what is sent from now on; the console checks each of them. */
async function readTurns() {
  const [file] = byId("turns-file").files;
  if (!file) return;
  const said = byId("turns-said");
  try {
    const text = await file.text();
    const listed = JSON.parse(text);
    if (!Array.isArray(listed)) throw new Error("[…]");
    turns = JSON.stringify(listed);
    said.textContent = t("turnsRead", { name: file.name, count: listed.length });
  } catch (error) {
    turns = "";
    byId("segments").value = "";
    said.textContent = t("turnsWrong", { name: file.name, why: error.message });
  }
  byId("turns-file").value = "";
}

function inThisLanguage() {
  byId("limits").textContent = t("limits", { size: bytes(about.max_file_bytes) });
  const why = whyNot();
  byId("record").disabled = Boolean(why);
  byId("record").setAttribute("aria-describedby", why ? "microphone-why" : "limits");
  byId("microphone-why").textContent = why;
  byId("microphone-why").hidden = !why;
  recordings.translate();
  live.translate();
}

async function patiently(act) {
  for (;;) {
    try {
      const found = await act();
      up();
      return found;
    } catch (error) {
      if (!error.passing) {
        say(reason(error), true);
        return null;
      }
      down(error);
      await new Promise((resolve) => setTimeout(resolve, 2000));
    }
  }
}

onLanguage(() => {});
const about = await patiently(() => ask("/api/about"));
const recordings = new Recordings(about, batch, say);
const live = new Live(byId("live"), { write: about.write, down, up });
byId("send").hidden = !about.write;
byId("read-only").hidden = about.write;
byId("logout").hidden = !about.login;
byId("logout").addEventListener("click", async () => {
  await ask("/api/logout", { method: "POST" }).catch(down);
  location.reload();
});
byId("language").addEventListener("click", switchLanguage);
DARK.addEventListener("change", () => recordings.translate());
tabs();
if (about.write) sending();
onLanguage(inThisLanguage);
show(location.hash === "#live" ? "live" : "recordings");
if (asked.has("batch")) await patiently(() => recordings.load());
if (asked.has("job")) await patiently(() => recordings.loadJob(asked.get("job")));
document.body.dataset.ready = "true";
recordings.watch(down, up);
