"""Settings: names, defaults, where they are read from, and what the machine decides."""

import os
import re
from pathlib import Path

import pytest

from producer.console.settings import ConsoleSettings
from producer.control.settings import ControlSettings
from producer.exporter.settings import ExporterSettings
from storage.settings import (
    SharedSettings,
    load,
    table,
    unknown_settings,
    unknown_variables,
    variable,
)
from tests.support.settings import problems
from worker import settings
from worker.audio.turns import SpeechOptions
from worker.settings import WorkerSettings, cores, decode_share_bytes, is_gpu_here, memory_bytes

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("clean_environment")


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("EMO_REDIS_URL", ""),
        ("EMO_PREFIX", "emo"),
        ("EMO_STORE", ""),
        ("EMO_S3_ACCESS_KEY", ""),
        ("EMO_S3_REGION", "us-east-1"),
        ("EMO_MODEL", "iic/emotion2vec_plus_large"),
        ("EMO_MODEL_REVISION", ""),
        ("EMO_DEVICE", "auto"),
        ("EMO_DTYPE", "auto"),
        ("EMO_OUTPUT_STORE", ""),
        ("EMO_OUTPUT_PREFIX", "emostream/"),
        ("EMO_TAPE_SLOTS", None),
        ("EMO_MAX_WAIT_SECONDS", 0.05),
        ("EMO_LEASE_SECONDS", 30),
        ("EMO_GRACE_SECONDS", 25),
        ("EMO_MAX_ATTEMPTS", 5),
        ("EMO_FETCH_TIMEOUT_SECONDS", 60),
        ("EMO_DECODE_TIMEOUT_SECONDS", 30),
        ("EMO_MAX_BACKLOG", 1_000_000),
        ("EMO_MAX_JOB_BYTES", 32 * 1024),
        ("EMO_RESULT_TTL_SECONDS", 86_400),
        ("EMO_RESULTS_MAXLEN", 1_000_000),
        ("EMO_WINDOW_SECONDS", 30),
        ("EMO_MAX_AUDIO_SECONDS", 7200),
        ("EMO_MAX_OBJECT_BYTES", 512 * 1024**2),
        ("EMO_SPEECH_THRESHOLD", 0.5),
        ("EMO_SPEECH_MIN_TURN_SECONDS", 0.25),
        ("EMO_SPEECH_MERGE_GAP_SECONDS", 0.3),
        ("EMO_SPEECH_PAD_SECONDS", 0.1),
        ("EMO_SPEECH_MAX_TURN_SECONDS", 30),
        ("EMO_METRICS_ADDRESS", "127.0.0.1:9464"),
        ("EMO_LOG_LEVEL", "info"),
    ],
)
def test_the_names_that_are_fixed_have_their_defaults(name: str, default: object) -> None:
    """Operators rely on both."""
    (field,) = [field for field in WorkerSettings.model_fields if variable(field) == name]
    assert getattr(load(WorkerSettings), field) == default


def test_a_variable_sets_its_field(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers, sizes with units, and text."""
    monkeypatch.setenv("EMO_MAX_OBJECT_BYTES", "512MiB")
    monkeypatch.setenv("EMO_BYTES_IN_FLIGHT", "2GB")
    monkeypatch.setenv("EMO_MAX_JOB_BYTES", "1000")
    monkeypatch.setenv("EMO_WINDOW_SECONDS", "2.5")
    monkeypatch.setenv("EMO_TAPE_SLOTS", "512")
    monkeypatch.setenv("EMO_FETCH_THREADS", "3")
    settings = load(WorkerSettings)
    assert settings.max_object_bytes == 512 * 1024**2
    assert settings.bytes_in_flight == 2 * 1000**3
    assert settings.max_job_bytes == 1000
    assert settings.window_seconds == 2.5
    assert settings.tape_slots == 512
    assert settings.fetch_threads == 3


def test_the_machine_decides_where_nothing_is_said() -> None:
    """At least one of each, and not hundreds."""
    settings = load(WorkerSettings)
    assert 1 <= settings.fetch_threads <= 32
    assert 1 <= settings.decode_processes <= 32
    assert Path(settings.spool_dir).is_dir()


@pytest.mark.parametrize(
    ("device", "here", "own_cores", "expected"),
    [
        ("auto", False, 16, 8),
        ("auto", True, 16, 15),
        ("cuda:1", False, 16, 15),
        ("cpu", True, 16, 8),
        ("auto", False, 64, 16),
        ("auto", True, 64, 32),
        ("auto", False, 1, 1),
        ("auto", True, 1, 1),
    ],
)
def test_beside_a_gpu_all_cores_but_one_decode(
    monkeypatch: pytest.MonkeyPatch, device: str, here: bool, own_cores: int, expected: int
) -> None:
    """On a CPU the network has the other half of them; a setting comes before either."""
    monkeypatch.setattr(settings, "is_gpu_here", lambda: here)
    monkeypatch.setattr(settings, "cores", lambda: own_cores)
    assert load(WorkerSettings, options={"device": device}).decode_processes == expected
    own = load(WorkerSettings, options={"device": device, "decode_processes": 3})
    assert own.decode_processes == 3


def test_a_driver_is_seen_by_its_device(tmp_path: Path) -> None:
    """As containers have it too; that of a system without one is no GPU."""
    assert not is_gpu_here(tmp_path)
    (tmp_path / "nvidiactl").touch()
    assert is_gpu_here(tmp_path)


def test_an_empty_tape_length_means_from_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compose file passes the variable on even where it is not set."""
    monkeypatch.setenv("EMO_TAPE_SLOTS", "")
    assert load(WorkerSettings).tape_slots is None


def test_speech_settings_become_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each its own; and the defaults are those of the options."""
    assert load(WorkerSettings).speech_options() == SpeechOptions()
    monkeypatch.setenv("EMO_SPEECH_THRESHOLD", "0.4")
    for number, name in enumerate(("MIN_TURN", "MERGE_GAP", "PAD"), start=1):
        monkeypatch.setenv(f"EMO_SPEECH_{name}_SECONDS", str(number))
    monkeypatch.setenv("EMO_SPEECH_MAX_TURN_SECONDS", "4")
    assert load(WorkerSettings).speech_options() == SpeechOptions(0.4, 1, 2, 3, 4)


def test_a_dotenv_file_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its values are used, and told where they are wrong; the environment comes first."""
    (tmp_path / ".env").write_text(
        "EMO_REDIS_URL=redis://host\nEMO_LEASE_SECONDS=-5\nEMO_MAX_ATTEMPTS=0\nOTHER=1\n"
    )
    monkeypatch.setenv("EMO_MAX_ATTEMPTS", "7")
    assert problems(required=["redis_url"]) == ["EMO_LEASE_SECONDS=-5: must be greater than 0"]
    monkeypatch.setenv("EMO_LEASE_SECONDS", "5")
    settings = load(WorkerSettings, required=["redis_url"])
    assert settings.redis_url == "redis://host"
    assert settings.max_attempts == 7


def test_unknown_variables_are_named() -> None:
    """`EMO_` variables that nothing reads are most likely misspelt; others are not ours."""
    environ = {"EMO_LEASE_SECOND": "1", "EMO_LEASE_SECONDS": "1", "EMOTION": "1", "EMO_A": ""}
    assert unknown_variables(WorkerSettings, environ) == ["EMO_A", "EMO_LEASE_SECOND"]


def test_unknown_names_are_found_wherever_settings_are_read_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In `.env` as in the environment, and in any case, as settings are."""
    (tmp_path / ".env").write_text(
        "EMO_DECODE_PROCESES=4\nexport emo_leas_seconds=9\nemo_device=cpu\nREDIS_PORT=1\n"
    )
    monkeypatch.setenv("emo_lease_seconds", "5")
    monkeypatch.setenv("emo_tape_slot", "5")
    assert load(WorkerSettings).lease_seconds == 5
    names = ["EMO_DECODE_PROCESES", "EMO_LEAS_SECONDS", "emo_tape_slot"]
    assert unknown_settings(WorkerSettings) == names


@pytest.mark.parametrize(
    "kind", [WorkerSettings, ControlSettings, ExporterSettings, ConsoleSettings]
)
def test_what_any_program_has_is_known_to_each(kind: type[SharedSettings]) -> None:
    """Whatever is in the environment that they share."""
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    every = re.findall(r"^\| `(EMO_[A-Z0-9_]+)`", page, re.MULTILINE)
    assert {"EMO_DECODE_PROCESSES", "EMO_WEBHOOK_HOSTS", "EMO_CONSOLE_HOSTS"} <= set(every)
    assert unknown_variables(kind, every) == []
    misspelt = "EMO_WEBHOOK_HOST"
    assert unknown_variables(kind, [misspelt]) == [misspelt] * (kind is ControlSettings)
    assert unknown_variables(kind, ["EMO_WEBHOK_HOSTS"]) == ["EMO_WEBHOK_HOSTS"]


def test_variables_of_other_programs_are_known() -> None:
    """In an environment that all programs share, each may have its own; misspelt ones are its."""
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    every = dict.fromkeys(re.findall(r"^\| `(EMO_[A-Z0-9_]+)`", page, re.MULTILINE), "x")
    assert "EMO_EXPORTER_ADDRESS" in every
    assert unknown_variables(WorkerSettings, every) == []
    misspelt = {"EMO_EXPORTER_ADRESS": "x", "EMO_CONSOLE_X": "x"}
    assert unknown_variables(WorkerSettings, misspelt) == []
    assert unknown_variables(ExporterSettings, misspelt) == ["EMO_EXPORTER_ADRESS"]


def test_the_table_has_every_setting() -> None:
    """docs/settings.md is made from it."""
    rows = table(WorkerSettings)
    for field in WorkerSettings.model_fields:
        assert f"| `{variable(field)}` |" in rows
    assert "| `EMO_PREFIX` | `emo` |" in rows


def test_options_come_before_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """And are checked like them."""
    monkeypatch.setenv("EMO_MODEL", "random:tiny")
    assert load(WorkerSettings, options={"model": "random:large"}).model == "random:large"
    assert problems(options={"device": "abacus"})[0].startswith("EMO_DEVICE=abacus: must be")


@pytest.mark.parametrize(
    ("quota", "expected"), [("max 100000", 3), ("200000 100000", 2), ("50000 100000", 1), ("?", 3)]
)
def test_a_containers_quota_bounds_the_cores(
    quota: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More threads than the quota lets run would be stopped in the middle of each other's work."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 2})
    (tmp_path / "cpu.max").write_text(quota)
    assert cores(tmp_path / "cpu.max") == expected
    assert cores(tmp_path / "nothing") == 3


@pytest.mark.parametrize(
    ("limit", "expected"), [("max", 1 << 62), ("8589934592", 1 << 33), ("?", 1 << 62)]
)
def test_a_containers_limit_bounds_the_memory(
    limit: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the machine has beyond it is not to be had."""
    monkeypatch.setattr(os, "sysconf", lambda _name: 1 << 31)
    (tmp_path / "memory.max").write_text(limit)
    assert memory_bytes(tmp_path / "memory.max") == expected
    assert memory_bytes(tmp_path / "nothing") == 1 << 62


@pytest.mark.parametrize(
    ("processes", "memory_mib", "share_mib"),
    [(1, 65_536, 1_024), (8, 8_192, 512), (16, 65_536, 1_024), (16, 2_048, 256)],
)
def test_decode_processes_share_half_of_the_memory(
    processes: int, memory_mib: int, share_mib: int
) -> None:
    """However many there are, hostile files in all of them leave the worker its half."""
    assert decode_share_bytes(processes, memory_mib << 20) == share_mib << 20


def test_a_share_is_of_as_many_processes_as_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """EMO_DECODE_PROCESSES counts, unless the share is set; a wrong one is reported alone."""
    monkeypatch.setattr(settings, "memory_bytes", lambda: 8 << 30)
    for options, share_mib in (
        ({"decode_processes": 16}, 256),
        ({"decode_processes": 8}, 512),
        ({"decode_processes": 8, "decode_memory_bytes": "2GiB"}, 2_048),
    ):
        limits = load(WorkerSettings, options=options).audio_limits()
        assert limits.memory_bytes == share_mib << 20
    (said,) = problems(options={"decode_processes": 0})
    assert said.startswith("EMO_DECODE_PROCESSES=0")
