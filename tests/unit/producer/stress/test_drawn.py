"""What is drawn before a run: times, choices, clips."""

import io
import statistics
import wave
from itertools import pairwise

import pytest

from producer.stress.clips import Lengths, draw_clips
from producer.stress.schedule import Arrivals, draw
from worker.bench import choices as bench


def drawn(arrivals: Arrivals = Arrivals.POISSON, **more: float) -> list[tuple[float, int]]:
    """A schedule of 50 jobs a second."""
    options = {"rate": 50.0, "seconds": 100.0, "clips": 4, "seed": 1, **more}
    return [(x.at_seconds, x.clip) for x in draw(arrivals, **options)]  # type: ignore[arg-type]


@pytest.mark.parametrize("arrivals", Arrivals)
def test_a_seed_gives_the_same(arrivals: Arrivals) -> None:
    """And another one something else."""
    assert drawn(arrivals) == drawn(arrivals)
    assert drawn(arrivals) != drawn(arrivals, seed=2)


def test_constant_arrivals_are_as_far_apart_as_the_rate_says() -> None:
    """Without a sum of rounding errors."""
    times = [at for at, _ in drawn(Arrivals.CONSTANT)]
    assert len(times) == 5000
    assert times[4321] == 4321 / 50


def test_poisson_arrivals_know_nothing_of_each_other() -> None:
    """Gaps are exponential: as wide as their mean, and many in a second that are close together."""
    times = [at for at, _ in drawn()]
    gaps = [after - before for before, after in pairwise(times)]
    assert len(times) == pytest.approx(5000, rel=0.05)
    assert statistics.mean(gaps) == pytest.approx(0.02, rel=0.05)
    assert statistics.stdev(gaps) == pytest.approx(0.02, rel=0.1)
    assert times == sorted(times) and times[-1] < 100


def test_clips_are_chosen_alike_at_every_rate() -> None:
    """So that two rates are compared on the same clips; none is preferred."""
    slow, fast = drawn(), drawn(rate=100.0)
    assert [clip for _, clip in fast][: len(slow)] == [clip for _, clip in slow]
    counts = [sum(clip == n for _, clip in slow) for n in range(4)]
    assert min(counts) > 0.2 * len(slow)


@pytest.mark.parametrize("lengths", Lengths)
def test_clips_are_files_of_the_lengths_that_bench_uses(lengths: Lengths) -> None:
    """Noise that is heard, the same for a seed, and each of its own."""
    files = dict(draw_clips(lengths, 6, 1))
    assert list(draw_clips(lengths, 6, 1)) == list(files.items())
    assert len(set(files.values())) == 6
    for data in files.values():
        with wave.open(io.BytesIO(data)) as file:
            assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16000)
            seconds = file.getnframes() / 16000
            samples = memoryview(file.readframes(file.getnframes())).cast("h")
        assert 2000 < max(samples) < 8000
        if lengths is Lengths.FIVE:
            assert seconds == bench.FIVE_SECONDS
        else:
            assert bench.SHORTEST_SECONDS <= seconds <= bench.LONGEST_SECONDS
    assert {each.value for each in Lengths} == {each.value for each in bench.Lengths}
