"""Attacks by what is added to the lanes."""

from pathlib import Path

from tests.attacks.target import Target, Toll, target
from tests.chaos.checks import Check, require
from tests.support.polling import until

LAST = "18446744073709551615-18446744073709551615"
_MOST_GROWTH_MIB = 100
_SOON_SECONDS = 5.0
_ADD_BIG = (
    "return redis.call('XADD', KEYS[1], '*', 'key', 'a.wav', 'big', string.rep('x', ARGV[1]))"
)


def oversized(directory: Path) -> list[Check]:
    """Entries of 100 and 150 MB, and of a million parts, among good jobs."""
    checks = []
    with target(directory) as victim:
        for name, count, size in (("4 of 150 MB", 4, 150), ("20 of 100 MB", 20, 100)):
            bad = [
                victim.client.eval(_ADD_BIG, 1, "emo:jobs", size * 1_000_000).decode()
                for _ in range(count)
            ]
            with victim.watched() as toll:
                checks += _outcome(victim, name, bad, toll)
        repeated = [b"key", b"a.wav"] * 500_000
        with victim.watched() as toll:
            bad = [
                victim.client.execute_command("XADD", "emo:jobs", "*", *repeated).decode()
                for _ in range(8)
            ]
            checks += _outcome(victim, "8 of 500,000 fields", bad, toll)
        checks.append(require("the worker lives", victim.worker.alive(), "one process throughout"))
    return checks


def _outcome(victim: Target, name: str, bad: list[str], toll: Toll) -> list[Check]:
    """What became of the entries, of ten jobs behind them, and of the worker."""
    good = victim.good_jobs(10, f"good-{len(bad)}-{name}".replace(" ", "-").replace(",", ""))
    seconds = victim.wait(good)
    until(lambda: all(victim.field(job, "status") == "failed" for job in bad), 60)
    codes = {victim.field(job, "error_code") for job in bad}
    return [
        require(
            f"{name}: good jobs behind them are done",
            seconds < _SOON_SECONDS,
            f"10 in {seconds:.2f} s; PING at most {1000 * toll.ping_seconds:.0f} ms",
        ),
        require(f"{name}: each ends as invalid_job", codes == {"invalid_job"}, f"{len(bad)}"),
        require(
            f"{name}: memory of the worker",
            toll.grown_mib < _MOST_GROWTH_MIB,
            f"{toll.grown_mib:+.0f} MiB at most",
        ),
    ]


def sealed(directory: Path) -> list[Check]:
    """The last id that there is, in each lane, in the results and in the dead letters."""
    with target(directory) as victim:
        for stream in ("emo:jobs", "emo:jobs:high", "emo:jobs:bulk", "emo:results", "emo:dead"):
            fields = {"key": "calm_en.wav", "job": f"last-{stream}"}
            victim.client.xadd(stream, fields, id=LAST)
        last = [f"last-{stream}" for stream in ("emo:jobs", "emo:jobs:high", "emo:jobs:bulk")]
        seconds = victim.wait(last)
        victim.worker.wait_for("stream.healed")
        until(lambda: not victim.client.keys("emo:aside:*"))
        again = 0.0
        for stream in ("emo:jobs", "emo:jobs:high", "emo:jobs:bulk"):
            again += victim.wait(victim.good_jobs(5, f"after-{stream}", stream))
        told = {fields[b"job"].decode() for _, fields in victim.client.xrange("emo:results")}
    return [
        require("the entries that sealed it run", seconds < _SOON_SECONDS, f"{seconds:.2f} s"),
        require("each lane takes jobs again", again < 2 * _SOON_SECONDS, f"15 in {again:.2f} s"),
        require("each has its event", {*last} <= told, f"{len(told)} in emo:results"),
    ]
