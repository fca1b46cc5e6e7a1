"""What is said of a run, and when it calls itself invalid."""

from dataclasses import replace

import pytest

from producer.stress.clock import Clocks, Reading
from producer.stress.feed import Shot
from producer.stress.report import Run
from producer.stress.sender import SENDERS
from tests.support.stress_runs import ASKED, START, ran, run, shot, shots


def test_a_run_as_it_should_be() -> None:
    """All figures of a service that takes 50 ms, whatever comes."""
    found = run()
    assert (found.verdict, found.invalid, found.failed, found.notes) == ("valid", (), (), ())
    assert (found.rates.offered, found.rates.sent, found.rates.done) == (100.0, 100.0, 100.0)
    assert found.rates.audio_s == 500.0
    assert (found.jobs, found.refused, found.open_at_end) == (1000, 0, 5)
    assert found.latency is not None and found.late is not None
    assert found.latency.count == 1000
    assert found.latency.p99_ms == pytest.approx(50, abs=1)
    assert found.drain_s == pytest.approx(0.04, abs=0.002)
    assert found.clips_per_tape == 4.0
    assert found.stages["infer"].p50_ms == 5.0
    assert found.stages["between"].p50_ms == pytest.approx(44, abs=1)
    assert sum(second.done for second in found.seconds) == pytest.approx(1200, abs=1)


def test_latency_counts_from_the_intended_time() -> None:
    """A sender that is held up does not hide what its callers wait for."""
    held_up = [
        replace(x, sent=START + 6.0) if 5.0 <= x.intended - START < 6.0 else x
        for x in shots(took=lambda n: 1.05 - n % 100 / 100 if 500 <= n < 600 else 0.05)
    ]
    found = run(held_up)
    assert found.latency is not None and found.from_sending is not None
    assert found.latency.most_ms == pytest.approx(1050, abs=1)
    assert found.from_sending.most_ms == pytest.approx(60, abs=11)
    assert found.verdict == "invalid"


def test_the_warm_up_is_left_out() -> None:
    """However slow it was; it is checked all the same."""
    found = run(shots(took=lambda n: 1.5 if n < 200 else 0.05))
    assert found.latency is not None
    assert found.latency.most_ms == pytest.approx(50, abs=1)
    wrong = [replace(shots(1)[0], ends=[]), *shots()[1:]]
    assert run(wrong).failed


@pytest.mark.parametrize(("lost", "valid"), [(10, True), (11, False)])
def test_a_run_that_did_not_send_what_it_offered_is_invalid(lost: int, valid: bool) -> None:
    """Less than 99 of 100."""
    planned = shots()
    for each in planned[500 : 500 + lost]:
        each.refused, each.ends, each.result = True, [], None
    found = run(planned)
    assert (found.verdict == "valid") is valid
    assert found.refused == lost
    if not valid:
        assert found.invalid[0].startswith("98.9 jobs a second were sent of 100 that were offered")


def test_a_sender_that_takes_longer_than_the_run_sends_less_than_it_offers() -> None:
    """Its rate is over the time that it took."""
    slow = [replace(x, sent=START + 2 + 1.2 * (x.intended - START - 2)) for x in shots()[200:]]
    found = run(slow)
    assert found.rates.sent == pytest.approx(100 / 1.2, rel=0.01)
    assert any("were sent of" in reason for reason in found.invalid)


@pytest.mark.parametrize(("late", "valid"), [(0.00049, True), (0.00052, False)])
def test_a_run_that_is_late_by_a_hundredth_of_its_latency_is_invalid(
    late: float, valid: bool
) -> None:
    """By the p99 of both: 0.5 ms of 50 ms."""
    found = run(shots(late=late))
    assert (found.verdict == "valid") is valid
    if not valid:
        assert "jobs were sent up to 0.520 ms late (p99)" in found.invalid[0]


def held_up(senders: int = SENDERS, more: float = 0.0) -> Run:
    """Redis took nothing for half a second, so many senders waited, and one was late besides."""
    planned = [
        replace(x, sent=START + 6.5 + more) if 6.0 <= x.intended - START < 6.5 else x
        for x in shots(took=lambda n: 0.55 + more - n % 100 / 100 if 600 <= n < 650 else 0.05)
    ]
    submissions = [(START + 6.0, START + 6.5)] * senders
    return run(planned, submissions=submissions)


def test_a_redis_that_stands_still_makes_no_run_invalid() -> None:
    """Nobody could have sent then, latency counts what callers waited, and it is told."""
    found = held_up()
    assert (found.verdict, found.invalid) == ("valid", ())
    (note,) = found.notes
    assert note.startswith("Redis took up to 500 ms to take a job, so that all 8 senders waited")
    assert found.late is not None and found.latency is not None
    assert found.late.most_ms == pytest.approx(500, abs=1)
    assert found.latency.most_ms == pytest.approx(550, abs=1)


@pytest.mark.parametrize(("senders", "more"), [(SENDERS - 1, 0.0), (SENDERS, 0.1)])
def test_what_is_late_beside_it_is_the_senders(senders: int, more: float) -> None:
    """While one was free, or when Redis took jobs again."""
    found = held_up(senders, more)
    assert found.verdict == "invalid"
    assert "the sender's machine was too busy" in found.invalid[0]
    assert found.notes == ()


def test_a_late_one_in_a_thousand_makes_no_run_invalid() -> None:
    """That is what the p99 is for."""
    planned = shots()
    planned[700] = shot(7.0, 0.05, late=0.03, number=700)
    assert run(planned).verdict == "valid"


def test_of_few_results_the_largest_counts() -> None:
    """There is no p99 to go by, and none is told."""
    few = shots()[200:600]
    few[10] = shot(2.1, 0.05, late=0.03, number=210)
    found = run(few)
    assert found.latency is not None
    assert found.latency.p99_ms is None and found.latency.p90_ms is not None
    assert any("late (the most)" in reason for reason in found.invalid)
    assert "no p99 of 400 results: it takes 459" in found.notes
    assert max(share for share, _ in found.curve) == 0.9
    fewer = run(shots()[200:263])
    assert fewer.latency is not None and fewer.latency.p90_ms is None
    assert max(share for share, _ in fewer.curve) == 0.5


def test_a_service_that_falls_behind_is_told_of() -> None:
    """Its latency grows with the run, which is no fault of the run."""
    found = run(shots(took=lambda n: 0.05 + n / 400))
    assert found.verdict == "valid"
    assert found.rates.done < 85
    assert any("did not keep up" in note for note in found.notes)


def test_a_closed_loop_offers_what_it_sends() -> None:
    """There is no schedule to fall behind."""
    asked = replace(ASKED, rate=None, arrivals=None, concurrency=5)
    found = run(shots(), asked=asked)
    assert found.verdict == "valid"
    assert found.rates.offered == found.rates.sent


def test_nothing_done_is_nothing_to_trust() -> None:
    """And no division by it."""
    planned: list[Shot] = [replace(x, ends=[], result=None) for x in shots()]
    found = run(planned)
    assert found.latency is None and found.verdict == "failed"
    assert run([]).verdict == "invalid"


def test_clocks_that_were_set_are_told_of() -> None:
    """A drift of half a millisecond is none."""
    for drift, told in ((0.0005, 0), (0.1, 1)):
        clocks = Clocks(Reading(START, 1000.0, 0.0001), Reading(START + 60, 1000 + drift, 0.0001))
        notes = [note for note in run(clocks=clocks).notes if "clock was set" in note]
        assert len(notes) == told


def test_others_and_retries_are_told_of() -> None:
    """They are why a run may be slow."""
    found = run(shots(attempts=2), foreign=7)
    assert any("7 jobs of others" in note for note in found.notes)
    assert any("1000 jobs took more than one try" in note for note in found.notes)


def test_a_run_that_was_stopped_counts_until_then() -> None:
    """What was not sent any more was not offered."""
    planned = shots()
    for each in planned[700:]:
        each.sent, each.result, each.ends = None, None, []
    found = run(planned, stopped=START + 7.0)
    assert found.stopped_early and not found.failed
    assert (found.jobs, found.rates.sent) == (500, 100.0)


def test_the_slowest_are_among_the_dots() -> None:
    """However many there are to draw."""
    found = run(shots(8000, took=lambda n: 2.0 if n == 3333 else 0.05))
    assert len(found.dots) < 2000
    assert max(ms for _, ms in found.dots) == pytest.approx(2000, abs=1)
    assert ran([]).window == (START + 2.0, START + 12.0)
