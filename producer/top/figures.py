"""Figures as people read them; `-` for what is not known."""

from producer.show import age

_SECOND_MS, _TEN_SECONDS_MS = 1000, 10_000
_GIGA = 1e9
_THREE_DIGITS = 100


def rate(value: float | None) -> str:
    """`4.2`, or `1,021`."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= _THREE_DIGITS else f"{value:.1f}"


def share(value: float | None) -> str:
    """`93%`."""
    return "-" if value is None else f"{value:.0%}"


def milliseconds(value: float | None) -> str:
    """`412 ms`, `1.1 s`, `14s`."""
    if value is None:
        return "-"
    if value < _SECOND_MS:
        return f"{value:.0f} ms"
    seconds = value / _SECOND_MS
    return f"{seconds:.1f} s" if value < _TEN_SECONDS_MS else age(seconds)


def gigabytes(value: float | None) -> str:
    """`3.2 GB`."""
    return "-" if value is None else f"{value / _GIGA:.1f} GB"


def of_gigabytes(part: float | None, total: float | None) -> str:
    """`6/80 GB`; nothing where one of them is not known."""
    if part is None or total is None:
        return ""
    return f"{part / _GIGA:.0f}/{total / _GIGA:.0f} GB"
