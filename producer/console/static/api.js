// Requests to the console, and nothing else: the page's policy forbids any other host.

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

export async function ask(path, { method = "GET", json, signal } = {}) {
  const headers = { "x-emostream": "1" };
  if (json !== undefined) headers["content-type"] = "application/json";
  let reply;
  try {
    const body = json === undefined ? undefined : JSON.stringify(json);
    reply = await fetch(path, { method, headers, body, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, { error: "no_answer", message: error.message });
  }
  return open(reply.status, await reply.text());
}

/** Send bytes, and tell how many of them are on their way. */
export function send(path, blob, { signal, onProgress }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", path);
    request.setRequestHeader("x-emostream", "1");
    request.setRequestHeader("content-type", "application/octet-stream");
    request.upload.onprogress = (event) => onProgress(event.loaded);
    request.onload = () => {
      try {
        resolve(open(request.status, request.responseText));
      } catch (error) {
        reject(error);
      }
    };
    request.onerror = () => reject(new Refused(0, { error: "no_answer", message: "" }));
    request.onabort = () => reject(new DOMException("", "AbortError"));
    signal.addEventListener("abort", () => request.abort(), { once: true });
    if (signal.aborted) request.abort();
    else request.send(blob);
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
