"""What is said of settings that are wrong."""

from typing import Any

import pytest

from storage.settings import InvalidSettings, SharedSettings, load
from worker.settings import WorkerSettings


def problems(kind: type[SharedSettings] = WorkerSettings, **options: Any) -> list[str]:
    """What is said of the settings."""
    with pytest.raises(InvalidSettings) as refused:
        load(kind, **options)
    assert str(refused.value) == "\n".join(refused.value.problems)
    return refused.value.problems
