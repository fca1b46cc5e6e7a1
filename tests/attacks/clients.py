"""Attacks by whoever may reach the worker's own port."""

import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from storage.redis.embedded import free_port
from tests.attacks.target import target
from tests.chaos.checks import Check, require

_CLIENTS = 400  # twice, and many times what the server holds at once
_LASTS_SECONDS = 15.0  # longer than one that says nothing is borne
_SOON_SECONDS = 5.0
_MOST_GROWTH_MIB = 20
_MOST_THREADS = 2


def slow_clients(directory: Path) -> list[Check]:
    """Clients that send a byte a second, and clients that ask and never read, for 15 s."""
    port = free_port()
    with target(directory, EMO_METRICS_ADDRESS=f"127.0.0.1:{port}") as victim:
        before = victim.process.num_threads()
        with victim.watched() as toll, _slow(port):
            ends = time.monotonic() + _LASTS_SECONDS
            jobs = victim.good_jobs(30, "slow")
            seconds = victim.wait(jobs)
            probes = [_probe(port)]
            while time.monotonic() < ends:
                probes.append(_probe(port))
                threading.Event().wait(0.5)
        name = f"{2 * _CLIENTS} slow clients of /metrics"
        threads = toll.threads - before
        return [
            require(
                f"{name}: good jobs are done", seconds < _SOON_SECONDS, f"30 in {seconds:.2f} s"
            ),
            require(
                f"{name}: /healthz answers",
                max(probes) < _SOON_SECONDS,
                f"{len(probes)} times, in {max(probes):.2f} s at most",
            ),
            require(
                f"{name}: memory and threads of the worker",
                toll.grown_mib < _MOST_GROWTH_MIB and threads <= _MOST_THREADS,
                f"{toll.grown_mib:+.0f} MiB, {threads:+d} threads at most",
            ),
            require(f"{name}: the worker lives", victim.worker.alive(), "one process throughout"),
        ]


@contextmanager
def _slow(port: int) -> Iterator[None]:
    """The clients; those that the server cuts off come back."""
    over = threading.Event()
    asks = b"GET /metrics HTTP/1.1\r\nHost: a\r\n"

    def attack(request: bytes) -> None:
        with ExitStack() as stack:
            open_ones: list[socket.socket] = []
            while not over.wait(1.0):
                while len(open_ones) < _CLIENTS:
                    try:
                        open_ones.append(
                            stack.enter_context(socket.create_connection(("127.0.0.1", port), 1))
                        )
                        open_ones[-1].sendall(request)
                    except OSError:
                        break
                open_ones = [each for each in open_ones if _goes_on(each)]

    kinds = (asks + b"X-A: ", asks + b"\r\n" + (asks + b"\r\n") * 20)
    threads = [threading.Thread(target=attack, args=(kind,)) for kind in kinds]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _goes_on(connection: socket.socket) -> bool:
    """Send one byte more; whether the server still takes it."""
    try:
        connection.setblocking(False)
        connection.send(b"x")
    except BlockingIOError:
        return True
    except OSError:
        return False
    return True


def _probe(port: int) -> float:
    """Seconds until `/healthz` has answered, tried until it does."""
    began = time.monotonic()
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10) as answer:
                answer.read()
            return time.monotonic() - began
        except OSError:
            if time.monotonic() > began + 30:
                return time.monotonic() - began
