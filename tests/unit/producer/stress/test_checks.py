"""One end for each job, and the scores it has alone."""

from dataclasses import replace
from typing import Any

import pytest

from producer.client import Event, Status
from producer.stress.alone import Alone, Clip
from producer.stress.checks import check
from producer.stress.feed import Shot
from tests.support.stress_runs import ALONE, result, shot


def faults(planned: Shot, alone: Alone = ALONE) -> str:
    """What is wrong with one."""
    lines, _ = check([planned], [alone])
    return "\n".join(lines)


def again(planned: Shot) -> Event:
    """A second end of it."""
    return replace(planned.ends[0], id="2-0")


def test_all_is_well() -> None:
    """No fault, and the difference is told; what was never sent is nobody's fault."""
    assert check([shot(5, 0.1)], [ALONE]) == ((), 0.0)
    unsent = replace(shot(5, 0.1), sent=None, result=None, ends=[])
    assert check([unsent, replace(unsent, sent=1.0, refused=True)], [ALONE]) == ((), None)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"status": "running", "finished_at_ms": None}, "1 job: no end, it is running (job-0)"),
        ({"status": "failed", "error_code": "not_audio"}, "1 job: ended as failed, not_audio"),
        ({"status": "expired"}, "1 job: ended as expired (job-0)"),
        ({"run": 2}, "ran again after its end"),
        ({"scores": '{"happy":0.7501,"sad":0.2499}'}, "more than 1e-05 in float32"),
        ({"scores": '{"happy":0.75}'}, "other labels than alone"),
        ({"scores": "{}"}, "other labels than alone"),
        ({"scores": "nonsense"}, "field 'scores'"),
        ({"model": "large"}, "model large, and alone tiny: workers differ"),
        ({"model_revision": "r2"}, "model_revision r2, and alone r1"),
    ],
)
def test_what_is_wrong_with_a_job(fields: dict[str, Any], said: str) -> None:
    """Each fault by its name, with the job that has it."""
    assert said in faults(shot(5, 0.1, **fields))


def test_ends_are_counted() -> None:
    """None, two, or one that nobody was told of."""
    planned = shot(5, 0.1)
    assert "2 ends" in faults(replace(planned, ends=[planned.ends[0], again(planned)]))
    assert "no event told it" in faults(replace(planned, ends=[]))
    assert "gone before it was read" in faults(replace(planned, result=None))
    assert "Redis knows nothing of it" in faults(replace(planned, result=None, ends=[]))


@pytest.mark.parametrize(
    ("dtype", "move", "right"),
    [
        ("float32", 0.00001, True),
        ("float32", 0.000012, False),
        ("float16", 0.01, True),
        ("bfloat16", 0.0102, False),
    ],
)
def test_how_far_scores_may_move(dtype: str, move: float, right: bool) -> None:
    """1e-5 in float32, 0.01 in half precision."""
    scores = f'{{"happy":{0.75 + move:.6f},"sad":{0.25 - move:.6f}}}'
    planned = shot(5, 0.1, dtype=dtype, scores=scores)
    alone = Alone(Clip("a", "a"), result(dtype=dtype), 20.0)
    lines, largest = check([planned], [alone])
    assert (not lines) is right
    assert largest == pytest.approx(move, abs=1e-9)


def test_one_side_in_half_precision_is_enough() -> None:
    """Workers may differ in it."""
    planned = shot(5, 0.1, scores='{"happy":0.755,"sad":0.245}')
    assert not faults(planned, Alone(Clip("a", "a"), result(dtype="float16"), 20.0))
    assert "float32" in faults(planned)


def test_many_of_a_kind_are_one_line() -> None:
    """With three of them by name."""
    planned = [shot(5, 0.1, number=n, status=Status.DEAD.value) for n in range(5)]
    (line,) = check(planned, [ALONE])[0]
    assert line == "5 jobs: ended as dead (job-0, job-1, job-2, …)"
