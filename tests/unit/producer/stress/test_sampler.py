"""Whom a run looks at, and what of their CPU time."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from producer.client import RedisError
from producer.stress import sampler
from producer.stress.sampler import Meter, Sampler


@dataclass(eq=False)
class Process:
    """What `psutil` would say of one."""

    pid: int
    seconds: float
    family: list["Process"] = field(default_factory=list)
    began: float = 1.0
    gone: bool = False

    def children(self, *, recursive: bool) -> list["Process"]:
        """Those that live."""
        self._require()
        return [each for each in self.family if not each.gone]

    def cpu_times(self) -> Any:
        """All of it as user's."""
        self._require()
        return SimpleNamespace(user=self.seconds, system=0.0)

    def create_time(self) -> float:
        """When it began."""
        return self.began

    def _require(self) -> None:
        if self.gone:
            raise psutil.NoSuchProcess(self.pid)


class Fleet:
    """A client whose workers are as a test says."""

    def __init__(self, *names: str) -> None:
        self.known = {name: (0.5, 0.9) for name in names}
        self.away = False
        self.operator = SimpleNamespace(lanes=self)

    def workers(self) -> Any:
        """The fleet."""
        if self.away:
            raise RedisError("no rights")
        told = [
            SimpleNamespace(name=name, device_share=share, tape_fill=fill)
            for name, (share, fill) in self.known.items()
        ]
        return SimpleNamespace(workers=told)

    def look(self) -> Any:
        """No job anywhere."""
        return SimpleNamespace(lanes=[], delayed=0)


def took(meter: Meter, *workers: Any) -> float:
    """Since the last look."""
    return sum(meter.took(each) or 0.0 for each in workers)


def test_a_worker_that_is_killed_takes_none_of_the_others_time() -> None:
    """What it had taken before is not taken off."""
    meter, one, two = Meter(), Process(1, 100.0), Process(2, 50.0)
    assert took(meter, one, two) == 0
    one.seconds, two.seconds = 101.0, 52.0
    assert took(meter, one, two) == 3
    one.gone, two.seconds = True, 54.0
    assert took(meter, one, two) == 2


def test_a_decode_process_that_is_replaced_counts_from_its_beginning() -> None:
    """Also where its number is that of the one before."""
    child = Process(2, 30.0)
    meter, worker = Meter(), Process(1, 10.0, [child])
    assert took(meter, worker) == 0
    child.gone = True
    worker.family += [Process(2, 0.5, began=2.0), Process(3, 0.25, began=2.0)]
    assert took(meter, worker) == 0.75
    worker.family[1].seconds = 1.0
    assert took(meter, worker) == 0.5


def test_a_worker_that_joins_counts_from_then_on() -> None:
    """Its CPU time of before is no part of the run."""
    meter, one, two = Meter(), Process(1, 1.0), Process(2, 500.0, [Process(3, 70.0)])
    took(meter, one)
    assert took(meter, one, two) == 0
    two.seconds, two.family[0].seconds = 501.0, 71.0
    assert took(meter, one, two) == 2


def test_all_workers_of_results_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that had no clip alone, and those that come later."""
    processes = {name: Process(number, 0.0) for number, name in enumerate(("a", "b", "c"), 1)}
    monkeypatch.setattr(sampler, "_local_process", processes.get)
    fleet: Any = Fleet("a", "b")
    fleet.known["b"] = (0.7, 0.7)
    looking = Sampler(fleet, every_seconds=60, workers={"a"})
    looking._start = 0.0
    looking._begin()
    processes["b"].seconds = 1000.0
    looking._look()
    fleet.known["c"] = (0.3, None)
    looking._look()
    processes["c"].seconds = 5000.0
    looking._look()
    processes["c"].seconds += 1000.0
    looking._look()
    first, second, third, fourth = looking.samples({"a", "b", "c"})
    assert (first.device_busy, first.tape_fill) == (0.6, 0.8)
    assert second.device_busy == 0.5
    assert (first.worker_cores or 0) > 0
    assert second.worker_cores == third.worker_cores == 0
    assert (fourth.worker_cores or 0) > 0


def test_workers_of_which_no_result_is_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """They may be another service's, on the same server."""
    processes = {name: Process(number, 0.0) for number, name in enumerate(("a", "b"), 1)}
    monkeypatch.setattr(sampler, "_local_process", processes.get)
    fleet: Any = Fleet("a", "b")
    fleet.known["b"] = (0.7, 0.7)
    looking = Sampler(fleet, every_seconds=60, workers={"a"})
    looking._start = 0.0
    looking._begin()
    processes["b"].seconds = 1000.0
    looking._look()
    (sample,) = looking.samples({"a"})
    assert (sample.device_busy, sample.tape_fill, sample.worker_cores) == (0.5, 0.9, 0)
    (sample,) = looking.samples({"elsewhere"})
    assert (sample.device_busy, sample.worker_cores) == (None, None)


def test_without_the_right_to_see_workers_those_of_results_are_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And what could not be seen is said."""
    processes = {"a": Process(1, 0.0)}
    monkeypatch.setattr(sampler, "_local_process", processes.get)
    fleet: Any = Fleet()
    fleet.away = True
    looking = Sampler(fleet, every_seconds=60, workers={"a", "elsewhere"})
    looking._start = 0.0
    looking._begin()
    processes["a"].seconds = 1000.0
    looking._look()
    (sample,) = looking.samples({"a", "elsewhere"})
    assert (sample.device_busy, sample.tape_fill) == (None, None)
    assert (sample.worker_cores or 0) > 0
    assert looking.faults == {"workers": "no rights"}
