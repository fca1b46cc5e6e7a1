"""The timeline with recordings to show, without a console: `python -m tests.support.timeline_site`.

Each case is a result as a worker would give it, with peaks and a preview that a decode process made
of synthetic speech.
"""

import json
import mimetypes
import re
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from storage.objects.blob import Blob
from storage.wire.messages import RENDERED
from tests.support.audio_files import ample_limits, encode
from worker.audio.processes import DecodeProcesses
from worker.clip import Renditions

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "producer" / "console" / "static"
PAGE = ROOT / "tests" / "data" / "timeline" / "index.html"
LABELS = (
    *("angry", "disgusted", "fearful", "happy", "neutral", "other", "sad", "surprised", "unknown"),
)
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_RATE_HZ = 16_000
Heard = Callable[[], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Said:
    """What somebody says: seconds [start, end), as which of LABELS, and how sure that is."""

    start_s: float
    end_s: float
    channel: int
    label: str
    score: float

    def told(self, **about: Any) -> dict[str, Any]:
        """As a result has it."""
        rest = (1 - self.score) / (len(LABELS) - 1)
        scores = {each: self.score if each == self.label else rest for each in LABELS}
        times = {"start_s": self.start_s, "end_s": self.end_s}
        return {**times, **about, "label": self.label, "score": self.score, "scores": scores}


def conversation(seconds: float, seed: int = 1) -> list[Said]:
    """A call: the agent stays calm, the customer goes from calm to angry and back to happy."""
    rng = np.random.default_rng(seed)
    said: list[Said] = []
    at, channel = 0.4, 0
    while at < seconds - 1.5:
        length = min(float(rng.uniform(1.2, 9 if channel else 6)), seconds - at - 0.2)
        share = at / seconds
        moods = ["neutral", "happy", "surprised"]
        if channel:
            moods = ["angry", "disgusted", "fearful"]
            moods = ["neutral", "sad", "angry"] if share < 0.3 else moods
            moods = ["happy", "neutral", "other"] if share > 0.7 else moods
        label = moods[int(rng.choice(3, p=[0.6, 0.25, 0.15]))]
        score = round(float(rng.uniform(0.3, 0.98)), 4)
        said.append(Said(round(at, 2), round(at + length, 2), channel, label, score))
        at += length + float(rng.uniform(-0.2, 0.8))
        channel = 1 - channel
    return said


def speech(said: Sequence[Said], seconds: float, channels: int = 2) -> NDArray[np.float32]:
    """Something that looks and sounds a little like it: float32 (channels, num_samples)."""
    rng = np.random.default_rng(0)
    time = np.arange(int(seconds * _RATE_HZ)) / _RATE_HZ
    sides = rng.normal(0, 0.002, (channels, len(time))).astype(np.float32)
    for one in said:
        inside = slice(int(one.start_s * _RATE_HZ), int(one.end_s * _RATE_HZ))
        part = time[inside] - one.start_s
        syllables = np.abs(np.sin(np.pi * (2.6 + one.channel) * part + rng.uniform(0, 3))) ** 1.5
        phrase = np.minimum(1, np.minimum(part, part[-1] - part) * 12) if len(part) else part
        pitch = (120 if one.channel else 200) * (1 + 0.1 * np.sin(5 * part))
        voice = sum(np.sin(2 * np.pi * k * pitch * part) / k for k in range(1, 6))
        loud = {"angry": 0.42, "sad": 0.12}.get(one.label, 0.24)
        noise = 0.4 * rng.normal(0, 1, len(part))
        sides[one.channel % channels, inside] += loud * syllables * phrase * (voice / 2 + noise)
    return np.clip(sides, -1, 1)


def cases(hour: float = 3_600) -> dict[str, tuple[dict[str, Any], Heard | None]]:
    """Results by name, and what makes that which is to be heard of each."""
    names = ("Amelie (agent)", "customer")
    call = conversation(96)
    long = conversation(hour, seed=2)
    pair = [one.told(speaker=names[one.channel], channel=one.channel) for one in call]
    both = [
        {
            **{"channel": side, "label": "neutral", "score": 0.6, "scores": {}},
            "segments": [one for one in pair if one["channel"] == side],
        }
        for side in range(2)
    ]
    steps = [Said(k, k + 1, 0, LABELS[(k * k + 3) % 9], 0.3 + 0.06 * (k % 11)) for k in range(30)]
    timeline = [
        {name: value for name, value in one.told().items() if name not in ("label", "score")}
        for one in steps
    ]
    longest = {
        "duration_s": f"{hour}",
        "channels": [
            {
                "channel": side,
                "segments": [one.told(speaker=names[side]) for one in long if one.channel == side],
            }
            for side in range(2)
        ],
    }
    first = Said(0, 5, 0, "happy", 0.81)
    whole = {"label": "happy", "score": "0.81", "scores": json.dumps(first.told()["scores"])}
    hostile = "<img src=x onerror=alert(1)>" + "ꙮ" * 80
    return {
        "call": ({"duration_s": "96.0", "channels": json.dumps(both)}, lambda: speech(call, 96)),
        "speakers": (
            {
                "duration_s": "96.0",
                "segments": [one.told(speaker=names[one.channel]) for one in call],
            },
            lambda: speech(call, 96, channels=1),
        ),
        "hour": (longest, lambda: speech(long, hour)),
        "timeline": ({"duration_s": "30.0", "timeline": timeline}, lambda: speech(steps, 30, 1)),
        "whole": ({"duration_s": "5.0", **whole}, lambda: speech([first], 5, 1)),
        "bare": ({"duration_s": "96.0", "segments": pair}, None),
        "apart": ({"duration_s": "96.0", "segments_key": "out/x.segments.json", **whole}, None),
        "nobody": ({"duration_s": "5.0", "segments": "[]", "segments_found": "0"}, None),
        "hostile": (
            {"duration_s": "9.0", "segments": [call[0].told(speaker=hostile), {"start_s": "x"}]},
            None,
        ),
    }


def made(wanted: Sequence[str] = (), *, hour: float = 3_600) -> dict[str, bytes]:
    """Every file of the site by its path, of the cases that are wanted, or of all."""
    files: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as spool:
        processes = DecodeProcesses(1, ample_limits(Path(spool)))
        try:
            for name, (result, heard) in cases(hour).items():
                if wanted and name not in wanted:
                    continue
                told = dict(result)
                if heard is not None:
                    told["peaks_key"], told["preview_key"] = f"{name}.dat", f"{name}.mp3"
                    peaks, preview = _rendered(processes, heard())
                    files |= {f"/{name}.dat": peaks, f"/{name}.mp3": preview}
                files[f"/{name}.json"] = json.dumps(told).encode()
        finally:
            processes.close()
    return files


def _rendered(processes: DecodeProcesses, sides: NDArray[np.float32]) -> tuple[bytes, bytes]:
    """Peaks and preview."""
    layout = "stereo" if len(sides) > 1 else "mono"
    data = encode(sides, _RATE_HZ, container="wav", codec="pcm_s16le", layout=layout)
    renditions = Renditions(RENDERED)
    processes.decode(Blob.from_bytes(data), "each", renditions)
    return renditions.peaks, bytes(renditions.preview)


@contextmanager
def served(files: Mapping[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """The address of the site, and the paths that were asked for so far."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with suppress(ConnectionError):  # a player takes no more than it needs
                self._answer()

        def _answer(self) -> None:
            path = urlsplit(self.path).path
            asked.append(path)
            data = _content(path, files)
            if data is None:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            span = _RANGE.fullmatch(self.headers.get("Range", ""))
            first = int(span[1]) if span else 0
            last = min(int(span[2]) if span and span[2] else len(data) - 1, len(data) - 1)
            part = data[first : last + 1]
            self.send_response(HTTPStatus.PARTIAL_CONTENT if span else HTTPStatus.OK)
            self.send_header("Accept-Ranges", "bytes")
            if span:
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
            kind = mimetypes.guess_type("x.html" if path == "/" else path)[0]
            self.send_header("Content-Type", kind or "application/octet-stream")
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            self.wfile.write(part)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()


def _content(path: str, files: Mapping[str, bytes]) -> bytes | None:
    if path == "/favicon.ico":
        return b""
    if path == "/":
        return PAGE.read_bytes()
    name = Path(path).name
    if path == f"/static/{name}" and (STATIC / name).is_file():
        return (STATIC / name).read_bytes()
    return files.get(path)


def main() -> None:
    """Serve all cases until it is interrupted."""
    with served(made()) as (address, _):
        for name in cases(60):
            print(f"{address}/?case={name}")
        print("with &dark or &lang=zh besides")
        threading.Event().wait()


if __name__ == "__main__":
    main()
