"""Whatever is wrong with a URL that holds a secret: no message tells the secret."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from storage.objects.store import open_store
from storage.redis.url import parse_redis_url
from storage.settings import InvalidSettings, load
from worker.settings import WorkerSettings

SECRET = "S3CR3T"
# What goes wrong with URLs: parts left out, doubled, in the wrong place, or not escaped.
SCHEMES = ["redis", "rediss", "redis+sentinel", "rediss+cluster", "unix", "s3", "s3s", "s4", "http"]
SCHEMES += ["file", "", "REDIS", SECRET]
SIGNS = ["://", ":/", ":", "/", "//", "@", "?", "#", "&", "=", ",", "%", "[", "]", " ", ";", "\\"]
SIGNS += ["password=", "pasword=", "username=", "ssl_ca_certs=", "db=", "sentinel_password="]
SIGNS += ["user", "host", "host:6379", "9000", "bucket", "\uff0f", "\u2100", "é", "\n"]
parts = st.lists(st.sampled_from([*SIGNS, SECRET, SECRET]), min_size=1, max_size=9)
urls = st.builds(
    lambda scheme, glue, rest: f"{scheme}{glue}{''.join(rest)}",
    st.sampled_from(SCHEMES),
    st.sampled_from(["://", "://", ":/", ":", ""]),
    parts,
)
quick = settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of whoever runs the tests, and no .env of theirs."""
    for name in os.environ:
        if name.upper().startswith("EMO_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def refused(url: str, *names: str) -> str:
    """What is said of settings with this value; nothing where it will do."""
    try:
        load(WorkerSettings, options=dict.fromkeys(names, url))
    except InvalidSettings as error:
        return str(error)
    return ""


@quick
@given(urls)
@example(f"redis://:{SECRET}/host")
@example(f"redis://user:{SECRET}/host:6379")
@example(f"redis://host?pasword={SECRET}")
@example(f"redis://host?{SECRET}=1")
@example(f"redis://host?password=a&{SECRET}")
@example(f"rediss://host?ssl_ca_certs=/a.pem?password={SECRET}")
@example(f"s3://KEY:{SECRET}/bucket")
@example(f"s3://KEY:{SECRET}/bucket/deeper")
@example(f"s3://KEY/{SECRET}@host/bucket")
@example(f"s3://host/{SECRET}")
@example(f"{SECRET}:x@host")
@example(f"s3://\u2100:{SECRET}@host/bucket")
def test_no_url_that_is_refused_tells_its_secret(url: str) -> None:
    """By the settings together, as people see them, and by each that takes a URL apart."""
    said = refused(url, "redis_url", "store", "output_store")
    assert SECRET.lower() not in said.lower()
    for understand in (parse_redis_url, open_store):
        try:
            understand(url)
        except ValueError as error:
            assert SECRET.lower() not in str(error).lower()


@quick
@given(urls)
@example(f"redis://:{SECRET}@host")
def test_a_url_in_the_wrong_variable_is_no_leak(url: str) -> None:
    """Two values that were swapped, say."""
    if "://" in url and "@" in url and SECRET in url.rpartition("@")[0].partition("://")[2]:
        said = refused(url, "prefix", "lease_seconds", "metrics_address", "device", "dtype")
        assert SECRET.lower() not in said.lower()


def test_the_settings_do_not_show_their_urls() -> None:
    """Where they are printed whole, as in a traceback."""
    chosen = load(WorkerSettings, options={"redis_url": f"redis://:{SECRET}@host"})
    assert SECRET not in f"{chosen!r} {chosen}"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://host?pasword=x", "EMO_REDIS_URL=redis://…: sets an option that is none of db, "),
        ("redis://host?pasword=x", "; did you mean password?"),
        ("nonsense", "EMO_REDIS_URL=…: must begin with redis://"),
    ],
)
def test_what_is_wrong_is_said_nonetheless(url: str, said: str) -> None:
    """With the scheme, if it is one, and what to write."""
    assert said in refused(url, "redis_url")
