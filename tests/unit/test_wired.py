"""That what a worker is told reaches what it is for."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from storage.objects.store import open_store
from storage.settings import load
from worker import stores
from worker.assembly import stages
from worker.assembly.stages import assemble
from worker.audio.room import Spool
from worker.audio.speech import SpeechDetector
from worker.audio.turns import SpeechOptions
from worker.commands.files import LocalFiles
from worker.engine.loading import load_engine
from worker.settings import WorkerSettings
from worker.telemetry.metrics import Metrics

STORE = {
    "EMO_STORE": "s3s://s3.example.org/audio",
    "EMO_OUTPUT_STORE": "s3s://s3.example.org/outputs",
    "EMO_S3_ACCESS_KEY": "key",
    "EMO_S3_SECRET_KEY": "S3CR3T",
    "EMO_S3_REGION": "eu-north-9",
    "EMO_FETCH_TIMEOUT_SECONDS": "3",
    "EMO_FETCH_THREADS": "7",
    "EMO_BUCKETS": "one, two",
}
TINY = {"EMO_MODEL": "random:tiny", "EMO_DEVICE": "cpu", "EMO_DECODE_PROCESSES": "1"}


def told(monkeypatch: pytest.MonkeyPatch, **variables: str) -> WorkerSettings:
    """The settings of that environment."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return load(WorkerSettings)


@pytest.fixture
def threads() -> Iterator[int]:
    """How many threads torch has; afterwards so again."""
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


def test_stores_are_opened_as_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Region, keys, limits and buckets, for audio, outputs, and those that are only asked."""
    opened: list[tuple[str, dict[str, Any]]] = []

    def noted(url: str, **options: Any) -> Any:
        opened.append((url, options))
        return open_store(url, **options)

    settings = told(monkeypatch, **STORE)
    monkeypatch.setattr("storage.settings.open_store", noted)
    made = stores.open_stores(settings)
    audio, outputs = STORE["EMO_STORE"], STORE["EMO_OUTPUT_STORE"]
    assert [url for url, _ in opened] == [audio, outputs, audio, outputs]
    for number, (_, options) in enumerate(opened):
        assert options == {
            "access_key": "key",
            "secret_key": "S3CR3T",
            "region": "eu-north-9",
            "timeout_seconds": 3,
            "connections": 7 if number < 2 else 1,
            "buckets": ["one", "two"],
        }
    store: Any = made.audio
    signed = store.client.get_presigned_url("GET", "audio", "a.wav")
    assert "%2Feu-north-9%2Fs3%2F" in signed


def test_so_many_threads_compute(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    """As EMO_COMPUTE_THREADS says, whatever there were before."""
    settings = told(monkeypatch, **TINY, EMO_COMPUTE_THREADS=str(threads + 2))
    load_engine(settings)
    assert torch.get_num_threads() == threads + 2


def test_speech_is_found_as_the_settings_say(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, threads: int
) -> None:
    """Each of the five reaches what finds it, in the pipeline that a worker is made of."""
    found: list[SpeechOptions] = []

    def noted(options: SpeechOptions) -> SpeechDetector:
        found.append(options)
        return SpeechDetector(options)

    monkeypatch.setattr(stages, "SpeechDetector", noted)
    settings = told(
        monkeypatch,
        **TINY,
        EMO_SPEECH_THRESHOLD="0.4",
        EMO_SPEECH_MIN_TURN_SECONDS="1",
        EMO_SPEECH_MERGE_GAP_SECONDS="2",
        EMO_SPEECH_PAD_SECONDS="3",
        EMO_SPEECH_MAX_TURN_SECONDS="4",
    )
    assemble(
        settings,
        load_engine(settings),
        LocalFiles(),
        Spool(tmp_path, 10**9),
        settle=lambda tasks: None,
        metrics=Metrics(),
    ).close()
    assert found == [
        SpeechOptions(
            threshold=0.4,
            min_turn_seconds=1,
            merge_gap_seconds=2,
            pad_seconds=3,
            max_turn_seconds=4,
        )
    ]
