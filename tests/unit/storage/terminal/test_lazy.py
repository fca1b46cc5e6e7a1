"""Commands that are imported when they are called."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from storage.terminal.lazy import lazy

ROOT = Path(__file__).resolve().parents[4]
_MODULES = {
    "one": 'def act(word: str) -> None:\n    """Do one thing."""\n    print("one", word)\n',
    "many": 'import typer\n\nboth = typer.Typer(help="Both of them.")\n'
    '@both.command()\ndef left() -> None:\n    """Left."""\n    print("left")\n'
    '@both.command()\ndef right() -> None:\n    """Right."""\n',
}


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    """Commands in modules that nobody has imported."""
    for name, text in _MODULES.items():
        (tmp_path / f"lazy_{name}.py").write_text(text, encoding="utf-8")
        monkeypatch.delitem(sys.modules, f"lazy_{name}", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    commands = lazy({"First": {"both": "lazy_many:both"}, "Then": {"act": "lazy_one:act"}})
    made = typer.Typer(cls=commands, no_args_is_help=True)
    made.callback()(lambda: None)
    return made


def imported() -> set[str]:
    """Those of the modules that were imported."""
    return {name for name in _MODULES if f"lazy_{name}" in sys.modules}


@pytest.mark.parametrize(
    ("call", "said", "module"),
    [(["act", "now"], "one now", "one"), (["both", "left"], "left", "many")],
)
def test_a_call_imports_its_command_alone(
    call: list[str], said: str, module: str, app: typer.Typer
) -> None:
    """Whether it is a function or has commands of its own."""
    assert not imported()
    ended = CliRunner().invoke(app, call)
    assert (ended.exit_code, ended.stdout.strip()) == (0, said)
    assert imported() == {module}


def test_the_help_lists_all_as_they_were_given(app: typer.Typer) -> None:
    """By panel, each with the line that its own help begins with."""
    told = CliRunner().invoke(app, ["--help"]).stdout
    first, both, act = (told.index(text) for text in ("First", "Both of them.", "Do one thing."))
    assert first < both < act
    assert "Do one thing." in CliRunner().invoke(app, ["act", "--help"]).stdout


def test_a_name_that_is_nearly_one_is_told(app: typer.Typer) -> None:
    """Without an import of any."""
    ended = CliRunner().invoke(app, ["bot"])
    assert ended.exit_code == 2
    assert "Did you mean 'both'?" in ended.stderr
    assert not imported()


STEPS: dict[str, list[tuple[list[str], list[str]]]] = {
    "producer": [
        ([], ["numpy", "producer.client", "storage.settings"]),
        (["status", "--help"], ["producer.control", "producer.stress", "producer.top"]),
        (["--help"], ["torch", "worker", "av", "rq", "pyarrow", "starlette"]),
    ],
    "worker": [
        ([], ["prometheus_client", "urllib3"]),
        (["doctor", "--help"], ["pynvml", "worker.bench", "worker.doctor"]),
        (["--help"], ["torch", "av", "ffmpeg", "worker.bench.clips", "worker.doctor.model"]),
    ],
}


@pytest.mark.parametrize("program", STEPS)
def test_programs_start_without_what_others_need(program: str) -> None:
    """To be called at all, for the help of a command, and for that of all; each after the last."""
    code = (
        f"import sys, {program}.cli as cli\nfrom typer.testing import CliRunner\n"
        f"for named, absent in {STEPS[program]}:\n"
        "    if named: assert not CliRunner().invoke(cli.app, named).exit_code\n"
        "    print([name for name in absent if name in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == ["[]"] * 3
