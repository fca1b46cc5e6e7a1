"""When a percentile is told, and which value it is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.percentiles import LEAST_RESULTS, MEDIAN, P90, P99, percentile

VALUES = st.lists(st.floats(0, 1e6), min_size=1, max_size=600)


@pytest.mark.parametrize(("share", "least"), [(MEDIAN, 1), (P90, 64), (P99, 459)])
def test_none_of_too_few(share: float, least: int) -> None:
    """One result less, and it is not told."""
    assert percentile([1.0] * least, share) == 1.0
    assert percentile([1.0] * (least - 1), share) is None


@given(values=VALUES, share=st.sampled_from(sorted(LEAST_RESULTS)))
def test_the_same_as_of_numpy(values: list[float], share: float) -> None:
    """In any order of the values."""
    found = percentile(values, share)
    if found is not None:
        assert found == pytest.approx(float(np.quantile(values, share)), rel=1e-9, abs=1e-9)


def test_what_the_least_numbers_promise() -> None:
    """As the module says: in 99 of 100 cases so many results lie beyond, and not of one less."""

    def fewer_than_two_beyond(share: float, results: int) -> float:
        return share**results + results * (1 - share) * share ** (results - 1)

    assert fewer_than_two_beyond(P90, 64) < 0.01 < fewer_than_two_beyond(P90, 63)
    assert P99**459 < 0.01 < P99**458
