"""URLs that ends of jobs are told to."""

import pytest

from storage.errors import InvalidJob
from storage.wire.callback import Callback, parse_callback


@pytest.mark.parametrize(
    ("url", "parts", "authority"),
    [
        ("https://hooks.example.org", (True, "hooks.example.org", 443, "/"), "hooks.example.org"),
        ("http://H.example/a?b=c#d", (False, "h.example", 80, "/a?b=c"), "h.example"),
        ("https://h.:8443?x", (True, "h", 8443, "/?x"), "h:8443"),
        ("http://[2001:DB8::7]:80/", (False, "2001:db8::7", 80, "/"), "[2001:db8::7]"),
        ("https://[::1]:1/@:", (True, "::1", 1, "/@:"), "[::1]:1"),
        ("https://h:443/%2e", (True, "h", 443, "/%2e"), "h"),
    ],
)
def test_it_is_read_in_parts(url: str, parts: tuple[bool, str, int, str], authority: str) -> None:
    """As it will be called."""
    callback = parse_callback(url)
    assert callback == Callback(*parts)
    assert callback.authority == authority


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://h/", "http:// or https://"),
        ("HTTPS://h/", "http:// or https://"),
        ("//h/", "http:// or https://"),
        ("https://", "ASCII"),
        ("https:///path", "ASCII"),
        ("https://./", "no host"),
        ("https://user:secret@h/", "a user and a password"),
        ("https://good.org@evil.org/", "a user and a password"),
        ("https://h\\@evil.org/", "a user and a password"),
        ("https://h/\\x", "ASCII"),
        ("https://h/ x", "ASCII"),
        ("https://h/\r\nX: y", "ASCII"),
        ("https://h\0/", "ASCII"),
        ("https://bücher.example/", "xn--"),
        ("https://h/ä", "percent-encoded"),
        ("https://h:/", "ASCII"),
        ("https://h:0/", "no port"),
        ("https://h:65536/", "no port"),
        ("https://h:999999/", "ASCII"),
        ("https://h:-1/", "ASCII"),
        ("https://[fe80::1%25eth0]/", "ASCII"),
        ("https://[::1/", "ASCII"),
        ("https://h%2eevil/", "ASCII"),
        ("https://h/" + "a" * 2048, "longer than 2048"),
    ],
)
def test_what_two_programs_could_read_in_two_ways_is_refused(url: str, why: str) -> None:
    """And said, without the password."""
    with pytest.raises(InvalidJob, match="field 'callback'") as refused:
        parse_callback(url)
    assert why in str(refused.value)
    assert "secret" not in str(refused.value)
