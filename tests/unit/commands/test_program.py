"""What every command of the worker begins with."""

import gc

import pytest

from worker.commands.program import heavy_imports


def test_what_is_imported_is_no_garbage_to_look_through() -> None:
    """Nobody looks while it is made, nor later; afterwards garbage is collected as ever."""
    frozen = gc.get_freeze_count()
    try:
        with pytest.raises(ImportError), heavy_imports():
            assert not gc.isenabled()
            raise ImportError
        assert gc.isenabled()
        assert gc.get_freeze_count() > frozen
    finally:
        gc.unfreeze()
