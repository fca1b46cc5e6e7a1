"""What is read from NVIDIA's driver, and what a worker on a card did."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import structlog
from prometheus_client import generate_latest

from tests.support import nvml
from worker.telemetry.account import Account
from worker.telemetry.gpu import GpuReading, NoGpu, Program, opened
from worker.telemetry.health import HealthServer
from worker.telemetry.metrics import Metrics
from worker.telemetry.verdict import State, verdict
from worker.telemetry.work import NoWorker, Work, between, look

Card = Callable[..., None]
Serve = Callable[[Metrics], str]


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Card:
    """A card; called, it reads as it is told."""
    path = tmp_path / "readings"
    nvml.load(monkeypatch, nvml.say(path, **nvml.BUSY))

    def reads(**readings: float) -> None:
        nvml.say(path, **readings)

    return reads


@pytest.fixture
def metrics_server() -> Iterator[Serve]:
    """Serves metrics; gives their URL."""
    with ExitStack() as stack:

        def serve(metrics: Metrics) -> str:
            server = HealthServer("127.0.0.1:0", metrics, alive=lambda: True, ready=lambda: True)
            server.start()
            stack.callback(server.stop)
            return f"http://127.0.0.1:{server.port}/metrics"

        yield serve


def read() -> GpuReading:
    """The one card's reading."""
    with opened() as gpus:
        (reading,) = gpus.all()
    return reading


@pytest.mark.usefixtures("card")
def test_all_that_a_card_says() -> None:
    """In units of people: shares, bytes, watts, megahertz."""
    assert read() == GpuReading(
        index=0,
        uuid=nvml.UUID,
        name="NVIDIA A10",
        driver="580.159.04",
        utilization=0.93,
        memory_used_bytes=6_000_000_000,
        memory_total_bytes=24_000_000_000,
        watts=141.5,
        limit_watts=150.0,
        sm_mhz=1500,
        most_sm_mhz=1695,
        celsius=64,
        held_down_by=("power limit",),
        programs=(Program(4242, 1_000_000_000),),
    )


def test_sensors_that_a_card_does_not_have(card: Card) -> None:
    """They are None, and the rest is read."""
    card(memory_used=1_000_000)
    reading = read()
    assert reading.memory_used_bytes == 1_000_000
    sensors = ("utilization", "watts", "limit_watts", "sm_mhz", "most_sm_mhz", "celsius")
    assert [getattr(reading, name) for name in sensors] == [None] * len(sensors)
    assert (reading.held_down_by, reading.programs) == ((), ())
    assert verdict(reading).state is State.ODD


def test_a_card_without_memory_of_its_own(card: Card) -> None:
    """One that has the CPU's, as a GB10: what its driver does not tell of is left out, no more."""
    card(**nvml.BUSY_GB10)
    reading = read()
    assert (reading.memory_used_bytes, reading.memory_total_bytes) == (None, None)
    assert (reading.memory_share, reading.utilization) == (None, 0.93)
    assert verdict(reading).state is State.HEALTHY
    metrics = Metrics()
    metrics.gpu.watch(nvml.UUID)
    page = generate_latest(metrics.registry).decode()
    assert "emostream_gpu_utilization_ratio{" in page
    assert "emostream_gpu_memory_used_bytes{" not in page
    told = Account(metrics).fields()
    assert told["gpu_verdict"] == "healthy"
    assert "gpu_memory_used_bytes" not in told


@pytest.mark.parametrize(
    ("reasons", "by"),
    [
        (0x0, ()),
        (0x1 | 0x4, ()),  # an idle card has a low clock
        (0x4, ("power limit",)),
        (0x8 | 0x40, ("heat, by the hardware",)),
        (0x8, ("the hardware",)),
        (0x20 | 0x4, ("power limit", "heat")),
    ],
)
def test_what_holds_a_clock_down(card: Card, reasons: int, by: tuple[str, ...]) -> None:
    """By NVML's bits."""
    card(memory_used=0, reasons=reasons)
    assert read().held_down_by == by


@pytest.mark.parametrize(
    ("readings", "said"),
    [
        ({"init": 9}, "not loaded"),
        ({"init": 18}, "reboot"),
        ({"init": 4}, "/dev/nvidia"),
        ({"init": 999}, "NVML says"),
        ({"count": 0}, "shows no GPU"),
        ({"uncounted": 999}, "NVML says"),
        ({"lost": 0}, "none of 1 GPUs"),
        ({"gone": 1}, "Not Found"),
    ],
)
def test_why_there_is_no_gpu(card: Card, readings: dict[str, float], said: str) -> None:
    """The classic faults of a driver are named, with what to do."""
    card(**readings)
    with pytest.raises(NoGpu, match=said):
        read()


@pytest.mark.parametrize(("lost", "uuid"), [(1, nvml.UUID), (0, nvml.NEIGHBOUR)])
def test_a_neighbour_that_is_lost(card: Card, lost: int, uuid: str) -> None:
    """One that has fallen off the bus costs the others nothing: metrics, or what a worker tells."""
    card(**nvml.BUSY, count=2, lost=lost)
    with opened() as gpus:
        assert gpus.uuids == [uuid]
        assert [each.uuid for each in gpus.all()] == [uuid]
    metrics = Metrics()
    with structlog.testing.capture_logs() as logs:
        metrics.gpu.watch(uuid)
    assert not logs
    page = generate_latest(metrics.registry).decode()
    assert f'emostream_gpu_power_watts{{gpu="{uuid}"}} 141.5\n' in page
    assert Account(metrics).fields()["gpu_uuid"] == uuid


def test_two_cards_are_read_apart(card: Card) -> None:
    """Each with its own index."""
    card(**nvml.BUSY, count=2)
    with opened() as gpus:
        read = [(each.index, each.uuid) for each in gpus.all()]
    assert read == [(0, nvml.UUID), (1, nvml.NEIGHBOUR)]


def test_a_machine_without_a_driver_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what it takes in a container."""
    monkeypatch.setattr("pynvml.nvmlLib", None)
    monkeypatch.setattr("pynvml.CDLL", lambda name: (_ for _ in ()).throw(OSError(name)))
    with pytest.raises(NoGpu, match="Container Toolkit"), opened():
        pass


def test_a_card_as_metrics(card: Card) -> None:
    """Once it is named, each scrape reads it anew; what it does not say is left out."""
    metrics = Metrics()
    assert b"emostream_gpu_power_watts{" not in generate_latest(metrics.registry)
    metrics.gpu.watch(nvml.UUID)
    page = generate_latest(metrics.registry).decode()
    label = f'{{gpu="{nvml.UUID}"}}'
    assert f"emostream_gpu_utilization_ratio{label} 0.93\n" in page
    assert f"emostream_gpu_power_watts{label} 141.5\n" in page
    assert f"emostream_gpu_clock_hertz{label} 1.5e+09\n" in page
    assert f'emostream_gpu_held_down{{by="power limit",gpu="{nvml.UUID}"}} 1.0\n' in page
    card(memory_used=7)
    page = generate_latest(metrics.registry).decode()
    assert f"emostream_gpu_memory_used_bytes{label} 7.0\n" in page
    assert "emostream_gpu_power_watts{" not in page


def test_a_gpu_that_cannot_be_read_is_said_once(card: Card) -> None:
    """In the log; scrapes go on without it."""
    card(gone=1)
    metrics = Metrics()
    with structlog.testing.capture_logs() as logs:
        metrics.gpu.watch(nvml.UUID)
        assert b"emostream_sick" in generate_latest(metrics.registry)
    assert [entry["event"] for entry in logs] == ["gpu.not_read"]


def test_looks_at_what_is_no_worker(metrics_server: Serve) -> None:
    """Nobody, and another program's page: each is said."""
    with pytest.raises(NoWorker, match="does not answer"):
        look("http://127.0.0.1:9/metrics")
    with pytest.raises(NoWorker, match="404"):
        look(metrics_server(Metrics()).replace("/metrics", "/other"))


def test_what_a_worker_did_between_two_looks(card: Card, metrics_server: Serve) -> None:
    """Rates over the time between, by its counters."""
    metrics = Metrics()
    metrics.gpu.watch(nvml.UUID)
    url = metrics_server(metrics)
    first = look(url)
    metrics.worked(1.5, 900, 1000)
    metrics.audio_seconds.inc(300)
    metrics.ended.labels("done", "").inc(30)
    metrics.ended.labels("failed", "not_audio").inc(10)
    metrics.observe_stage("decode", 4.0)
    for _ in range(2):
        metrics.observe_stage("infer", 0.7)
    for _ in range(40):
        metrics.batch_clips.observe(20)
    metrics.in_flight.set(7)
    second = look(url)
    assert second.gpu == nvml.UUID
    found = between(first._replace(at=0.0), second._replace(at=2.0))
    assert 0 <= found.cores < 10
    assert found == Work(
        cores=found.cores,
        seconds=2.0,
        device_share=0.75,
        tape_fill=0.9,
        clips_a_tape=20.0,
        audio_seconds_a_second=150.0,
        jobs_a_second=20.0,
        in_flight=7,
        stage_shares={"fetch": 0.0, "decode": 2.0, "normalize": 0.0, "infer": 0.7},
        sick=False,
    )
    metrics.observe_stage("resample", 1.0)  # where a device does it
    assert list(between(first, look(url)).stage_shares)[1:3] == ["decode", "resample"]
    within = between(first._replace(at=0.0), second._replace(at=1.0))
    assert within.device_share == 1.0  # most of a tape's time was before the first look
    with pytest.raises(NoWorker, match="started again"):
        between(second, first)


def test_the_stand_in_is_what_is_read(card: Card) -> None:
    """Two readings differ where the file does: nothing is remembered."""
    assert read().utilization == 0.93
    card(**{**nvml.BUSY, "utilization": 12})
    assert read().utilization == 0.12
