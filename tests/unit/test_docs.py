"""The documentation against the code: what can be compared is compared."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.generate import pages
from producer.console.settings import ConsoleSettings
from producer.control.settings import ControlSettings
from producer.exporter.metrics import catalogue as of_the_queue
from producer.exporter.settings import ExporterSettings
from storage.errors import JobError
from storage.serving.metrics_server import table
from storage.settings import variable
from worker.settings import WorkerSettings
from worker.telemetry.metrics import catalogue

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
LEVELS = {"debug", "info", "warning", "error", "exception"}

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_generated_pages_are_up_to_date(page: Path) -> None:
    """A setting or metric that changes, changes its page: `make docs`."""
    assert page.read_text(encoding="utf-8") == pages()[page]


@every_page
def test_links_resolve(page: Path) -> None:
    """Every relative link names a file that exists, and a heading in it."""
    for target in re.findall(r"\]\(([^)\s]+)\)", _prose(page)):
        if re.match(r"[a-z]+://", target):
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.exists(), f"{page.name} links to {target}"
        assert linked.is_relative_to(ROOT), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(linked), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_every_page_is_in_the_index(page: Path) -> None:
    """A page that docs/README.md does not list is a page that nobody finds."""
    assert page.name == "README.md" or f"({page.name})" in _text(ROOT / "docs" / "README.md")


@every_page
def test_named_settings_exist(page: Path) -> None:
    """Every EMO_ variable that a page names is a setting."""
    kinds = (WorkerSettings, ControlSettings, ExporterSettings, ConsoleSettings)
    known = {variable(name) for kind in kinds for name in kind.model_fields}
    assert set(re.findall(r"\bEMO_[A-Z0-9_]*[A-Z0-9]", _text(page))) <= known


@every_page
def test_named_make_targets_exist(page: Path) -> None:
    """Every `make …` that a page tells the reader to run is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z][a-z-]*):", _text(ROOT / "Makefile"), re.MULTILINE))
    for command in re.findall(r"(?:^|`)make ([^`\n#]+)", _text(page), re.MULTILINE):
        named = {word for word in command.split() if re.fullmatch(r"[a-z-]+", word)}
        assert named <= targets, f"{page.name}: make {command}"


def test_error_codes_are_documented_with_their_kind() -> None:
    """The table lists every code, and says rightly which are tried again."""
    kinds = {kind.code: kind.retryable for kind in JobError.__subclasses__()}
    rows = re.findall(
        r"^\| `(\w+)` \| (permanent|retryable) \|", _text(ROOT / "docs" / "wire.md"), re.MULTILINE
    )
    assert {code: said == "retryable" for code, said in rows} == kinds


def test_log_events_are_documented() -> None:
    """The catalogue lists every event that the programs log, and none that they do not."""
    rows = re.findall(
        r"^\| `([a-z]+\.[a-z_]+)` \| (?:debug|info|warning|error) \|",
        _text(ROOT / "docs" / "operations.md"),
        re.MULTILINE,
    )
    logged = {
        event
        for package in ("storage", "worker", "producer")
        for source in sorted((ROOT / package).rglob("*.py"))
        for event in _events(ast.parse(_text(source)))
    }
    assert set(rows) == logged
    assert len(rows) == len(logged), "an event is listed twice"


def test_named_metrics_exist() -> None:
    """Every metric that the operator is told to watch is one that a worker has, or the exporter."""
    known = set(re.findall(r"`(emostream_\w+)`", catalogue() + table(of_the_queue())))
    named = set(re.findall(r"`(emostream_\w+)`", _text(ROOT / "docs" / "operations.md")))
    assert named
    assert named <= known


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _prose(page: Path) -> str:
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```", "", _text(page), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as the usual renderers name them."""
    headings = re.findall(r"^#+ (.+)$", _prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _events(tree: ast.AST) -> Iterator[str]:
    """The names that `log.…(name)` is called with, in a literal or in a variable of literals."""
    assigned: dict[str, list[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            assigned[node.targets[0].id] = list(_strings(node.value))
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="log"), attr=level), args=[event, *_]
            ) if level in LEVELS:
                names = assigned[event.id] if isinstance(event, ast.Name) else _strings(event)
                yield from names


def _strings(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
