// Requests to the console, and nothing else: the page's policy forbids any other host.

// A connection that was lost without a word, as a phone's is that changes its network, is heard of
// by nobody for a quarter of an hour.
const STALLED_MS = 120_000; // longer than a part waits for its turn at a busy console

export class Refused extends Error {
  constructor(status, told) {
    super(told.message || `HTTP ${status}`);
    this.status = status;
    this.code = told.error || "refused";
    this.detail = told;
  }

  /** Whether asking again may help: the console, Redis or the store is away. */
  get passing() {
    return this.status === 0 || this.status === 401 || this.status === 408
      || this.status === 429 || this.status >= 500;
  }
}

export async function ask(path, { method = "GET", json, signal, patienceMs = STALLED_MS } = {}) {
  const headers = { "x-emostream": "1" };
  if (json !== undefined) headers["content-type"] = "application/json";
  const body = json === undefined ? undefined : JSON.stringify(json);
  const over = new AbortController();
  const end = () => over.abort();
  const patience = setTimeout(end, patienceMs);
  signal?.addEventListener("abort", end);
  if (signal?.aborted) end();
  let status, text;
  try {
    const reply = await fetch(path, { method, headers, body, signal: over.signal });
    [status, text] = [reply.status, await reply.text()];
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refused(0, { error: "no_answer", message: error.message });
  } finally {
    clearTimeout(patience);
    signal?.removeEventListener("abort", end);
  }
  return open(status, text);
}

/** Send bytes, and tell how many of them are on their way. One that stands still is given up. */
export function send(path, blob, { signal, onProgress }) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const request = new XMLHttpRequest();
    const noAnswer = () => reject(new Refused(0, { error: "no_answer", message: "" }));
    let patience;
    const goesOn = () => {
      clearTimeout(patience);
      patience = setTimeout(() => {
        noAnswer();
        request.abort();
      }, STALLED_MS);
    };
    request.open("PUT", path);
    request.setRequestHeader("x-emostream", "1");
    request.setRequestHeader("content-type", "application/octet-stream");
    request.onloadend = () => clearTimeout(patience);
    request.upload.onprogress = (event) => {
      goesOn();
      onProgress(event.loaded);
    };
    request.onload = () => {
      try {
        resolve(open(request.status, request.responseText));
      } catch (error) {
        reject(error);
      }
    };
    request.onerror = noAnswer;
    request.onabort = () => reject(new DOMException("", "AbortError"));
    signal.addEventListener("abort", () => request.abort(), { once: true });
    goesOn();
    request.send(blob);
  });
}

function open(status, text) {
  let told = {};
  try {
    told = JSON.parse(text);
  } catch {
    // A proxy's page: its status says enough.
  }
  if (status >= 200 && status < 300) return told;
  throw new Refused(status, told);
}

export const pause = (ms, signal) => new Promise((resolve, reject) => {
  const timer = setTimeout(resolve, ms);
  signal?.addEventListener("abort", () => {
    clearTimeout(timer);
    reject(new DOMException("", "AbortError"));
  }, { once: true });
});
