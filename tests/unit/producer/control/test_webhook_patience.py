"""How long is waited between attempts."""

from producer.control.webhooks.patience import LONGEST_SECONDS, WAITS_SECONDS, wait_seconds

DAY_SECONDS = 86_400


def test_attempts_last_for_a_day() -> None:
    """Soon at first, and never more than two hours apart."""
    waits: list[float] = []
    while (wait := wait_seconds(len(waits) + 1, chance=lambda: 0.5)) is not None:
        waits.append(wait)
    assert waits == sorted(waits)
    assert waits[0] < 10
    assert max(waits) < 2.2 * 3600
    assert 0.98 * DAY_SECONDS < sum(waits) < 1.1 * DAY_SECONDS
    assert len(waits) == len(WAITS_SECONDS)


def test_what_failed_together_does_not_come_again_together() -> None:
    """But never sooner than is said."""
    chances = [0.0, 0.25, 0.99]
    waits = [wait_seconds(4, chance=lambda chance=chance: chance) for chance in chances]  # type: ignore[misc]
    assert len(set(waits)) == 3
    assert waits[0] == 600


def test_a_receiver_may_ask_for_patience() -> None:
    """Not for haste, nor for more than half a day."""
    assert wait_seconds(1, 300.0, lambda: 0.0) == 300
    assert wait_seconds(4, 1.0, lambda: 0.0) == 600
    assert wait_seconds(1, 1e9, lambda: 0.0) == LONGEST_SECONDS
    assert wait_seconds(len(WAITS_SECONDS) + 1, 300.0) is None
