"""The console's texts: nothing is missing in either language, and every error has its advice."""

import re
from pathlib import Path

import pytest

from storage.errors import JobError
from storage.queue.workers import State
from storage.wire.messages import Status

STATIC = Path(__file__).resolve().parents[3] / "producer" / "console" / "static"
LANGUAGES = ("en", "zh")


def texts(language: str) -> tuple[dict[str, str], dict[str, str]]:
    """What is said, and what is advised, by key."""
    whole = (STATIC / f"text-{language}.js").read_text("utf-8")
    said, _, advised = whole.partition("export const advice")
    entry = re.compile(r'(\w+): "((?:[^"\\]|\\.)*)"')
    return dict(entry.findall(said)), dict(entry.findall(advised))


def test_both_languages_say_the_same_things() -> None:
    """By the same keys, with the same gaps to be filled in."""
    for english, chinese in zip(texts("en"), texts("zh"), strict=True):
        assert english.keys() == chinese.keys()
        for key, text in english.items():
            gaps = [set(re.findall(r"\{\w+\}", one)) for one in (text, chinese[key])]
            assert gaps[0] == gaps[1], key


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_error_code_has_its_heading_and_advice(language: str) -> None:
    """Those that workers write, and those of the page; the former have a heading too."""
    said, advised = texts(language)
    codes = {kind.code for kind in JobError.__subclasses__()}
    assert {name for name in said if name.startswith("fault_")} == {
        f"fault_{code}" for code in codes
    }
    of_pages = {"backlog_full", "redis_away", "redis_denied", "no_answer", "abandoned"}
    assert codes | of_pages | {"unreadable_file"} <= advised.keys()


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_status_is_named(language: str) -> None:
    """As people say it."""
    said, _ = texts(language)
    assert {f"state_{status}" for status in Status} <= said.keys()
    assert {f"worker_{state}" for state in State} <= said.keys()


def test_every_text_that_is_asked_for_is_there() -> None:
    """By pages and by scripts."""
    said, _ = texts("en")
    asked: set[str] = set()
    for page in STATIC.glob("*.html"):
        asked |= set(re.findall(r'data-t(?:-label)?="(\w+)"', page.read_text("utf-8")))
    for script in STATIC.glob("*.js"):
        if not script.name.startswith("timeline"):
            asked |= set(re.findall(r'(?:\bt|button)\("(\w+)"', script.read_text("utf-8")))
    assert asked <= said.keys()


def test_every_text_is_asked_for() -> None:
    """By its key, or by a key that is put together: `state_${status}`."""
    said, _ = texts("en")
    sources = [
        page.read_text("utf-8") for page in STATIC.iterdir() if not page.name.startswith("text-")
    ]
    whole = "\n".join(source for source in sources)
    families = set(re.findall(r"`([a-z]+_)\$\{", whole))
    asked = set(re.findall(r"\w+", whole))
    unasked = {key for key in said.keys() - asked if f"{key.partition('_')[0]}_" not in families}
    assert unasked == set()


def test_labels_have_the_colours_of_the_timeline() -> None:
    """In both themes: a bar and a turn of one label are one colour."""
    console, timeline = (
        re.findall(rf"--{prefix}-(\w+): (#\w+);", (STATIC / name).read_text("utf-8"))
        for prefix, name in (("label", "console.css"), ("et", "timeline.css"))
    )
    assert len(console) == 18
    assert set(console) <= set(timeline)


def test_the_pages_name_no_other_host() -> None:
    """Neither scripts, nor fonts, nor anything else."""
    for file in STATIC.iterdir():
        found = set(re.findall(r"https?://[^\s\"')]+", file.read_text("utf-8")))
        assert found <= {"http://www.w3.org/2000/svg"}, file.name
