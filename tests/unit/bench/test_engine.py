"""Measuring the engine."""

import math
from dataclasses import replace
from itertools import chain, count

import pytest
import torch

from storage.errors import JobError
from tests.support.polling import until
from worker.bench.choices import Lengths
from worker.bench.clips import draw
from worker.bench.engine import measure_engine, predict, segments_of
from worker.bench.report import EngineReport
from worker.engine.engine import Engine
from worker.model.synthetic import synthetic


@pytest.fixture(scope="module")
def engine() -> Engine:
    """The tiny model with tapes of one second, so that little is run."""
    model = synthetic("tiny", device=torch.device("cpu"), dtype=torch.float32)
    return Engine(model, tape_slots=600, window_seconds=11.0)


@pytest.fixture(scope="module")
def report(engine: Engine) -> EngineReport:
    """Everything measured, as shortly as it can be."""
    return measure_engine(engine, lengths=Lengths.FIVE, seconds=0.0)


def test_the_ladder_goes_up_to_the_whole_tape(report: EngineReport) -> None:
    """Each length that the engine has, and nothing longer than it takes."""
    assert [rung.slots for rung in report.ladder] == [128, 288, 544, 600]
    assert [rung.clips for rung in report.ladder] == [1, 2, 3, 3]


def test_figures_agree_with_each_other(report: EngineReport) -> None:
    """A 5 s clip is a fifth of the audio seconds; a share is the speed over its limit."""
    limits = report.limits
    assert report.rtfx == pytest.approx(5 * report.clips_per_second)
    assert report.device_busy is not None
    assert 0 < report.device_busy <= 1
    assert limits.share_matrix == pytest.approx(report.rtfx / limits.rtfx_matrix)
    assert limits.rtfx_matrix == pytest.approx(limits.matrix_gflops / limits.gflop_per_audio_second)
    assert limits.share_products == pytest.approx(report.rtfx / limits.rtfx_products)
    for rung in report.ladder:
        assert rung.us_per_slot == pytest.approx(1000 * rung.ms / rung.slots)


def test_a_device_is_busy_most_of_the_time(engine: Engine, report: EngineReport) -> None:
    """Where nothing else takes the core away between two short tapes."""
    again = (measure_engine(engine, lengths=Lengths.FIVE, seconds=0.0) for _ in count())
    reports = chain([report], again)
    until(lambda: (next(reports).device_busy or 0.0) > 0.5)


def test_a_tape_on_a_cpu_is_full(report: EngineReport) -> None:
    """It is as long as what is on it."""
    assert report.tape_fill == 1.0


def test_predictions_come_in_the_order_of_the_segments(engine: Engine) -> None:
    """Though they went on several tapes, each started before the last was waited for."""
    segments = segments_of(draw(Lengths.SHORT, 5))
    together = predict(engine, segments)
    alone = [engine.pool(engine.run([segment])) for segment in segments]
    assert len({prediction.scores["angry"] for prediction in alone}) == 5
    for ours, expected in zip(together, alone, strict=True):
        assert ours.scores == pytest.approx(expected.scores, abs=1e-5)


def test_a_clip_that_fails_ends_the_measurement(engine: Engine) -> None:
    """A fast answer that is an error would be a wrong figure."""
    (segment,) = segments_of(draw(Lengths.FIVE, 1))
    broken = replace(segment.clip, scale=math.nan)
    with pytest.raises(JobError, match="finite"):
        predict(engine, [replace(segment, clip=broken)])
