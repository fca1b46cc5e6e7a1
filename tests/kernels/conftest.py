"""Triton's interpreter, without what it does over and over."""

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session", autouse=True)
def quick_interpreter() -> Iterator[None]:
    """It replaces the whole language whenever one function calls another: for a kernel, once."""
    # Imported no sooner: tests/conftest.py has to say first that there is to be an interpreter.
    interpreter = pytest.importorskip("triton.runtime.interpreter", reason="NO TRITON")
    if not (hasattr(interpreter, "_patch_lang") and hasattr(interpreter, "_LangPatchScope")):
        yield  # another Triton, which is run as it comes
        return
    tl, patch_language = interpreter.tl, interpreter._patch_lang

    def patch_once(function: Any) -> Any:
        names = [each for each in function.__globals__.values() if each is tl or each is tl.core]
        if any(tl.core.is_builtin(each.load) for each in names):
            return patch_language(function)
        return interpreter._LangPatchScope()  # whoever called it has done it, and puts it back

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpreter, "_patch_lang", patch_once)
        yield
