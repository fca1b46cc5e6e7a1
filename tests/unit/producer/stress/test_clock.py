"""Redis' clock by ours."""

import pytest

from producer.stress.clock import Clocks, Reading, read_offset


class Server:
    """A clock 1000 s ahead of ours, behind a way that takes its time."""

    def __init__(self, *trips: tuple[float, float]) -> None:
        """`trips` are the seconds to it, and back."""
        self.now = 50.0
        self.trips = iter(trips)

    def clock(self) -> float:
        """Our time."""
        return self.now

    def time(self) -> tuple[int, int]:
        """What TIME says, when the answer is here."""
        there, back = next(self.trips)
        self.now += there
        told = round(1e6 * (self.now + 1000))
        self.now += back
        return divmod(told, 1_000_000)


def test_the_shortest_way_counts() -> None:
    """Half of it is how wrong the offset may be, and it is no more wrong than that."""
    server = Server((0.1, 0.5), (0.001, 0.003), (0.4, 0.4))
    reading = read_offset(server.time, looks=3, clock=server.clock)
    assert reading.error == pytest.approx(0.002)
    assert abs(reading.offset - 1000) <= reading.error + 1e-6


def test_a_time_of_redis_is_one_of_ours() -> None:
    """Given a clock that gains a millisecond a second; half of the last digit is added."""
    before, after = Reading(10.0, 1000.0, 0.0001), Reading(20.0, 1000.01, 0.0003)
    clocks = Clocks(before, after)
    assert clocks.drift_seconds == pytest.approx(0.01)
    assert clocks.error_seconds == pytest.approx(0.0008)
    for ours in (10.0, 15.0, 20.0, 25.0):
        unix = ours + 1000 + (ours - 10) * 0.001
        assert clocks.ours(int(1000 * unix)) == pytest.approx(ours, abs=0.00051 + 2e-5)


def test_one_reading_is_no_line() -> None:
    """Two at the same moment give the offset alone."""
    reading = Reading(10.0, 1000.0, 0.0)
    assert Clocks(reading, reading).ours(1_011_000) == pytest.approx(11.0005)
