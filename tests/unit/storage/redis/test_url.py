"""EMO_REDIS_URL: its forms, and what is said of wrong ones."""

import re
from pathlib import Path

import pytest

from storage.redis.connection import connect
from storage.redis.url import Kind, parse_redis_url


@pytest.mark.parametrize(
    ("url", "kind", "nodes"),
    [
        ("redis://host", Kind.SINGLE, [("host", 6379)]),
        ("redis://host:7000/3", Kind.SINGLE, [("host", 7000)]),
        ("rediss://user:pass@host:7000", Kind.SINGLE, [("host", 7000)]),
        ("redis://[::1]:7000", Kind.SINGLE, [("::1", 7000)]),
        ("redis+sentinel://a,b:7000/emo", Kind.SENTINEL, [("a", 26379), ("b", 7000)]),
        ("rediss+sentinel://:pass@a/emo/1", Kind.SENTINEL, [("a", 26379)]),
        ("redis+cluster://a:7000,[::1],c", Kind.CLUSTER, [("a", 7000), ("::1", 6379), ("c", 6379)]),
        ("unix:///run/redis.sock?db=2", Kind.UNIX, []),
    ],
)
def test_a_url_names_its_servers(url: str, kind: Kind, nodes: list[tuple[str, int]]) -> None:
    """One, or several with commas between them; each with its usual port."""
    parsed = parse_redis_url(url)
    assert parsed.kind is kind
    assert list(parsed.nodes) == nodes
    assert parsed.tls == url.startswith("rediss")


def test_all_parts_are_understood(tmp_path: Path) -> None:
    """User, password, master, database, the unix path, and the options."""
    sentinel = parse_redis_url("redis+sentinel://us%40er:p%2Fss@a/my%20emo/3?sentinel_password=q")
    assert sentinel.master == "my emo"
    assert sentinel.options == {"username": "us@er", "password": "p/ss", "db": 3}
    assert sentinel.sentinel_options == {"password": "q"}
    unix = parse_redis_url("unix:///run/my%20redis.sock?db=2&username=u&password=p")
    assert unix.path == "/run/my redis.sock"
    assert unix.options == {"db": 2, "username": "u", "password": "p"}
    authority = tmp_path / "ca.pem"
    authority.touch()
    tls = parse_redis_url(f"rediss://h?ssl_ca_certs={authority}&ssl_check_hostname=False")
    assert tls.options == {"ssl_ca_certs": str(authority), "ssl_check_hostname": False}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://host", "must begin with redis://"),
        ("redis:/host", "must begin with redis://"),
        ("rediss+unix:///run/redis.sock", "must begin with redis://"),
        ("unix://run/redis.sock", "three slashes"),
        ("unix:///", "three slashes"),
        ("redis://", "must name host:port"),
        ("redis://host:port", "must name host:port"),
        ("redis://host:0", "must name host:port"),
        ("redis://host:65536", "must name host:port"),
        ("redis://[::1:6379", "brackets"),
        ("redis://:p/ss@host", "%2F"),
        ("redis://:p#ss@host", "%23"),
        ("redis://:p?ss@host", "%3F"),
        ("redis://a,b", "redis+sentinel:// or redis+cluster://"),
        ("redis+sentinel://host", "must end with the master's name"),
        ("redis+sentinel://host/", "must end with the master's name"),
        ("redis+sentinel://host/emo/x", "number of a database"),
        ("redis://host/name", "number of a database"),
        ("redis+cluster://host/1", "database 0 only"),
        ("redis+cluster://host?db=1", "database 0 only"),
        ("redis://host?retry_on_timeout=true", "sets an option that is none of db"),
        ("redis://host?sentinel_password=x", "sets an option that is none of db"),
        ("redis://host?db=x", "db: must be a number"),
        ("redis://host?ssl_cert_reqs=none", "ssl_cert_reqs is for TLS: begin with rediss://"),
        ("rediss://host?ssl_cert_reqs=maybe", "ssl_cert_reqs: must be required or none"),
        ("rediss://host?ssl_check_hostname=perhaps", "must be true or false"),
        ("rediss://host?ssl_ca_certs=/nowhere.pem", "ssl_ca_certs: there is no such file"),
    ],
)
def test_a_url_that_cannot_be_understood_is_explained(url: str, said: str) -> None:
    """The message says what to write instead."""
    with pytest.raises(ValueError, match=re.escape(said)) as refused:
        parse_redis_url(url)
    assert "ss@" not in str(refused.value)


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+cluster", "rediss+cluster"])
def test_a_password_is_in_no_representation(scheme: str) -> None:
    """Of the URL as it was understood, or of the client made with it."""
    url = f"{scheme}://user:hush@host"
    assert "hush" not in repr(parse_redis_url(url))
    with connect(url, name="test") as client:
        assert "hush" not in f"{client!r} {client.connection_pool!r}"


def test_a_sentinels_password_is_in_no_representation() -> None:
    """Nor in what is said when no sentinel answers."""
    url = "redis+sentinel://user:hush@127.0.0.1:1/emo?sentinel_password=hush"
    assert "hush" not in repr(parse_redis_url(url))
    with connect(url, name="test") as client:
        assert "hush" not in f"{client!r} {client.connection_pool!r}"
        with pytest.raises(Exception, match="no sentinel names the master emo") as refused:
            client.ping()
    assert "hush" not in str(refused.value)
