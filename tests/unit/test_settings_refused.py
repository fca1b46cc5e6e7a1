"""Settings that are refused: each is named, explained, and shown without its secrets."""

import pytest

from storage.settings import SharedSettings, load, table
from tests.support.settings import problems
from worker.settings import WorkerSettings

pytestmark = pytest.mark.usefixtures("clean_environment")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("EMO_WINDOW_SECONDS", "0", "must be greater than or equal to 0.025"),
        ("EMO_WINDOW_SECONDS", "nan", "must be"),
        ("EMO_MAX_AUDIO_SECONDS", "0.001", "must be greater than or equal to 0.025"),
        ("EMO_LEASE_SECONDS", "0", "must be greater than 0"),
        ("EMO_LEASE_SECONDS", "inf", "must be a finite number"),
        ("EMO_GRACE_SECONDS", "inf", "must be a finite number"),
        ("EMO_MAX_WAIT_SECONDS", "-1", "must be greater than or equal to 0"),
        ("EMO_MAX_ATTEMPTS", "many", "must be a valid integer"),
        ("EMO_MAX_OBJECT_BYTES", "0", "must be greater than or equal to 1"),
        ("EMO_MAX_OBJECT_BYTES", "5 apples", "could not interpret byte unit: apples"),
        ("EMO_JOBS_IN_FLIGHT", "2", "must be greater than or equal to 8"),
        ("EMO_SPEECH_THRESHOLD", "1", "must be less than 1"),
        ("EMO_SPEECH_THRESHOLD", "0", "must be greater than 0"),
        ("EMO_SPEECH_PAD_SECONDS", "-0.1", "must be greater than or equal to 0"),
        ("EMO_SPEECH_MERGE_GAP_SECONDS", "inf", "must be a finite number"),
        ("EMO_SPEECH_MAX_TURN_SECONDS", "0.9", "must be greater than or equal to 1"),
        ("EMO_DEVICE", "gpu", "must be auto, cpu, cuda or cuda:N"),
        ("EMO_DTYPE", "int8", "must be 'auto', 'float32', 'bfloat16' or 'float16'"),
        ("EMO_PREFIX", "a b", "must match pattern"),
        ("EMO_METRICS_ADDRESS", "9464", "must be host:port, or empty"),
        ("EMO_METRICS_ADDRESS", "localhost:99999", "must be host:port, or empty"),
    ],
)
def test_a_wrong_value_is_named_and_explained(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    """The variable, what it was set to, and what it must be."""
    monkeypatch.setenv(name, value)
    (problem,) = problems()
    assert problem.startswith(f"{name}={value}: ")
    assert said in problem


def test_turns_that_could_not_be_cut_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a job finds out."""
    monkeypatch.setenv("EMO_SPEECH_MIN_TURN_SECONDS", "8")
    assert problems() == [
        "EMO_SPEECH_MAX_TURN_SECONDS=30: must be at least 4 times EMO_SPEECH_MIN_TURN_SECONDS"
    ]


def test_all_problems_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what is required and missing, so that one look mends everything."""
    monkeypatch.setenv("EMO_WINDOW_SECONDS", "0")
    monkeypatch.setenv("EMO_MAX_ATTEMPTS", "0")
    monkeypatch.setenv("EMO_STORE", "s3://host/bucket")
    assert problems(required=["redis_url", "store"]) == [
        "EMO_MAX_ATTEMPTS=0: must be greater than or equal to 1",
        "EMO_WINDOW_SECONDS=0: must be greater than or equal to 0.025",
        "EMO_REDIS_URL: required; " + str(SharedSettings.model_fields["redis_url"].description),
    ]


def test_what_is_required_may_not_be_missing() -> None:
    """The message says what the variable is for."""
    (problem,) = problems(SharedSettings, required=["redis_url"])
    assert problem.startswith("EMO_REDIS_URL: required; Redis or Valkey")


@pytest.mark.parametrize(
    ("name", "value", "shown", "said"),
    [
        ("EMO_REDIS_URL", "redis://h/0?retry=1", "redis://…", "sets an option that is none of db"),
        (
            "EMO_REDIS_URL",
            "http://host",
            "http://…",
            "must begin with redis://, rediss://, unix://, ",
        ),
        ("EMO_REDIS_URL", "redis+sentinel://host", "redis+sentinel://…", "end with the master's"),
        ("EMO_STORE", "file://relative/dir", "file://…", "the directory must be absolute"),
        ("EMO_OUTPUT_STORE", "ftp://host/dir", "…", "write s3://host:port/bucket"),
    ],
)
def test_of_a_wrong_url_the_scheme_is_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, shown: str, said: str
) -> None:
    """And what it must be: a password may stand anywhere in the rest."""
    monkeypatch.setenv(name, value)
    (problem,) = problems()
    assert problem.startswith(f"{name}={shown}: ")
    assert said in problem


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EMO_REDIS_URL", "http://user:hush/w0rd@host:6379"),
        ("EMO_REDIS_URL", "redis:/:hush/w0rd@host"),
        ("EMO_REDIS_URL", "redis://:hush?w0rd@host"),
        ("EMO_REDIS_URL", "redis://:hush#w0rd@host"),
        ("EMO_REDIS_URL", "redis+sentinel://:hush@w0rd@host"),
        ("EMO_REDIS_URL", "redis+cluster://user:hush@host/1?password=w0rd"),
        ("EMO_REDIS_URL", "rediss+sentinel://user:hush@host?sentinel_password=w0rd"),
        ("EMO_STORE", "s3://KEY:hush/w0rd@host:9000/bucket"),
        ("EMO_STORE", "s3://KEY:hush@host:9000/bucket"),
        ("EMO_OUTPUT_STORE", "s4://KEY:hush/w0rd@host/bucket"),
    ],
)
def test_credentials_in_a_url_are_not_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """A message is read by more people than the setting."""
    monkeypatch.setenv(name, value)
    (problem,) = problems()
    assert "hush" not in problem
    assert "w0rd" not in problem
    assert problem.startswith(f"{name}=")


def test_a_cluster_needs_a_hash_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before anything is connected to; a single server needs none."""
    monkeypatch.setenv("EMO_REDIS_URL", "redis+cluster://:hush@host")
    assert problems() == ["EMO_PREFIX=emo: on Redis Cluster it must be a hash tag, like {emo}"]
    monkeypatch.setenv("EMO_PREFIX", "{emo}")
    assert load(WorkerSettings).prefix == "{emo}"


def test_the_secret_key_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by printing the settings, nor beside other problems."""
    monkeypatch.setenv("EMO_S3_ACCESS_KEY", "loud")
    monkeypatch.setenv("EMO_S3_SECRET_KEY", "hush")
    settings = load(WorkerSettings)
    assert settings.s3_secret_key.get_secret_value() == "hush"
    assert "hush" not in f"{settings!r} {settings} {settings.model_dump()}"
    assert "hush" not in table(WorkerSettings)
    monkeypatch.setenv("EMO_LEASE_SECONDS", "0")
    assert "hush" not in "\n".join(problems())


def test_one_key_without_the_other_is_said_with_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Credentials are a pair."""
    monkeypatch.setenv("EMO_S3_ACCESS_KEY", "alone")
    (problem,) = problems()
    assert "EMO_S3_SECRET_KEY" in problem
