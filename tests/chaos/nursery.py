"""`python -m tests.chaos.nursery`: has imported torch already, and forks workers.

Importing torch takes seconds of CPU; a fork of a process that has done so, and has started no
thread, takes none. Workers are processes of their own all the same.

It reads one JSON object a line, `{"log": path, "settings": {…}}`, and writes `{"pid": …}` for each
worker that it started, and `{"pid": …, "status": …}` for each that ended. When its input ends, it
ends, and its workers with it.
"""

import json
import os
import select
import sys
from pathlib import Path

# Loaded now so that no worker has to.
import storage.objects.s3
import worker.engine.engine
import worker.engine.loading
from tests.chaos.worker import run

PRELOADED = (storage.objects.s3, worker.engine.engine, worker.engine.loading)


def main() -> None:
    """Serve until standard input ends."""
    if len(os.listdir("/proc/self/task")) > 1:
        raise SystemExit("a library has started threads: a fork would lose them")
    workers: dict[int, int] = {}  # pidfd: pid
    # Unbuffered: select knows nothing of what a buffer holds.
    orders = open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)  # noqa: SIM115 - to the end
    _tell(ready=True)
    while True:
        readable, _, _ = select.select([sys.stdin.fileno(), *workers], [], [])
        for fd in readable:
            if fd in workers:
                pid = workers.pop(fd)
                os.close(fd)
                _tell(pid=pid, status=os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            elif line := orders.readline():
                _fork(line, workers)
            else:
                return


def _fork(line: bytes, workers: dict[int, int]) -> None:
    asked = json.loads(line)
    pid = os.fork()
    if pid == 0:
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, sys.stdin.fileno())
        run(asked["settings"], Path(asked["log"]))
    workers[os.pidfd_open(pid)] = pid
    _tell(pid=pid)


def _tell(**what: object) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main()
