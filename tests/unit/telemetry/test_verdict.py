"""What readings of a card are taken for, beside what a worker on it did."""

import pytest

from tests.support import nvml
from worker.telemetry.gpu import GpuReading, Program
from worker.telemetry.verdict import State, verdict
from worker.telemetry.work import Work


def reading(**changed: object) -> GpuReading:
    """A card under load, but for what is changed."""
    usual = {
        "index": 0,
        "uuid": nvml.UUID,
        "name": "NVIDIA A10",
        "driver": "580",
        "utilization": 0.93,
        "memory_used_bytes": 6_000_000_000,
        "memory_total_bytes": 24_000_000_000,
        "watts": 140.0,
        "limit_watts": 150.0,
        "sm_mhz": 1500,
        "most_sm_mhz": 1695,
        "celsius": 60,
        "held_down_by": ("power limit",),
        "programs": (Program(4242, None),),
    }
    return GpuReading(**{**usual, **changed})  # type: ignore[arg-type]  # as they are named


def work(**changed: object) -> Work:
    """A worker under load, but for what is changed."""
    usual = {
        "seconds": 5.0,
        "device_share": 0.95,
        "tape_fill": 0.98,
        "clips_a_tape": 60.0,
        "audio_seconds_a_second": 2_000.0,
        "jobs_a_second": 400.0,
        "in_flight": 200,
        "stage_shares": {"fetch": 1.0, "decode": 3.0, "normalize": 0.5, "infer": 1.0},
        "cores": 0.5,
        "sick": False,
    }
    return Work(**{**usual, **changed})  # type: ignore[arg-type]  # as they are named


NO_MEMORY = {"memory_used_bytes": None, "memory_total_bytes": None}
STARVED = {"device_share": 0.4, "in_flight": 9}


@pytest.mark.parametrize(
    ("gpu", "worker", "state", "said"),
    [
        # What the well-known ranges say, where nobody else is asked.
        ({}, None, State.HEALTHY, "93%"),
        ({"utilization": 0.6}, None, State.UNDER_FED, "EMO_DECODE_PROCESSES"),
        ({"utilization": 0.01}, None, State.IDLE, "4242"),
        ({"utilization": 0.01, "programs": ()}, None, State.IDLE, "no program"),
        ({"utilization": 1.0, "memory_used_bytes": 10**9}, None, State.ODD, "one kernel"),
        ({"utilization": None}, None, State.ODD, "--worker"),
        ({"utilization": 1.0, **NO_MEMORY}, None, State.HEALTHY, "100%"),
        ({"memory_used_bytes": 23_900_000_000}, None, State.MEMORY_STARVED, "EMO_TAPE_SLOTS"),
        ({"held_down_by": ("heat",)}, None, State.ODD, "1500 of 1695 MHz by heat"),
        # What a worker on it knows better.
        ({}, {}, State.HEALTHY, "95%"),
        ({"utilization": 1.0, "memory_used_bytes": 10**9}, {}, State.HEALTHY, "95%"),
        ({"utilization": 1.0}, STARVED, State.UNDER_FED, "EMO_DECODE_PROCESSES"),
        ({}, {**STARVED, "stage_shares": {"fetch": 9.0, "decode": 1.0}}, State.UNDER_FED, "FETCH"),
        ({}, {**STARVED, "stage_shares": {"normalize": 1.0}}, State.UNDER_FED, "second worker"),
        (
            {},
            {**STARVED, "stage_shares": {"decode": 1.0, "resample": 1.9}},
            State.UNDER_FED,
            "second worker",
        ),
        ({}, {**STARVED, "cores": 1.4}, State.UNDER_FED, "second worker on it: this one takes 1.4"),
        ({}, {"device_share": 0.4, "in_flight": 0}, State.HEALTHY, "nothing more is waiting"),
        ({}, {"device_share": 0.8}, State.HEALTHY, "below the usual"),
        ({}, {"device_share": 0.0, "in_flight": 0, "tape_fill": None}, State.IDLE, "no job"),
        ({}, {"tape_fill": 0.5}, State.UNDER_FED, "EMO_MAX_WAIT_SECONDS"),
        ({}, {"audio_seconds_a_second": 1_000.0}, State.ODD, "50% of the 2,000"),
        ({}, {"device_share": 0.0, "in_flight": 0, "sick": True}, State.ODD, "log"),
        ({"memory_used_bytes": 23_900_000_000}, {}, State.MEMORY_STARVED, "4242"),
    ],
)
def test_verdicts(
    gpu: dict[str, object], worker: dict[str, object] | None, state: State, said: str
) -> None:
    """Each with the reason, and the setting to change where there is one."""
    found = verdict(reading(**gpu), None if worker is None else work(**worker), 2_000.0)
    assert found.state is state
    assert said in f"{found.reason}; {found.change}"
    assert bool(found.change) == (state not in {State.HEALTHY, State.IDLE})


def test_a_machine_without_a_core_left() -> None:
    """More workers or processes would give nothing."""
    found = verdict(reading(), work(**STARVED, cores=1.4), machine_busy=0.97)
    assert (found.state, "97% of this machine's cores" in found.change) == (State.UNDER_FED, True)
