"""Triton's interpreter, without what it finds out again at each call."""

import inspect
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import pytest


@pytest.fixture(scope="session", autouse=True)
def quick_interpreter() -> Iterator[None]:
    """It looks through the whole language whenever one function calls another: once will do."""
    # Imported no sooner: tests/conftest.py has to say first that there is to be an interpreter.
    interpreter = pytest.importorskip("triton.runtime.interpreter", reason="NO TRITON")
    is_builtin = interpreter.tl.core.is_builtin

    @cache
    def builtins(package: Any) -> list[tuple[str, Any]]:
        return [(name, each) for name, each in inspect.getmembers(package) if is_builtin(each)]

    def patch_builtin(package: Any, builder: object, scope: Any) -> None:
        for name, member in builtins(package):
            if is_builtin(getattr(package, name)):
                interpreter._patch_attr(package, name, member, builder, scope)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpreter, "_patch_builtin", patch_builtin)
        yield


@pytest.fixture
def no_overflow_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the whole network: test_kernels.py has each of its kernels checked, on as many slots."""
    interpreter = pytest.importorskip("triton.runtime.interpreter")
    builder = interpreter.interpreter_builder
    monkeypatch.setattr(builder, "options", replace(builder.options, sanitize_overflow=False))
