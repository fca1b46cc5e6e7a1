"""From what a user names to object keys in the store."""

from pathlib import Path

import pytest

from producer.sources import UPLOAD_PREFIX, Source, place, place_segments
from storage.objects.directory import DirectoryStore
from storage.objects.local_files import named_files
from storage.objects.store import ObjectStore
from storage.wire.parts import Parts, SegmentAsked, parse_segments


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The directory of a store."""
    root = tmp_path / "store"
    root.mkdir()
    return root


@pytest.fixture
def store(root: Path) -> ObjectStore:
    """A store of its own directory."""
    return DirectoryStore(root)


def test_directories_are_opened_up(tmp_path: Path) -> None:
    """To the audio files in them, in order; other names stay as they are, and where they are."""
    (tmp_path / "b" / "deep").mkdir(parents=True)
    for name in ("b/2.wav", "b/1.wav", "b/deep/3.WAV", "b/notes.txt"):
        (tmp_path / name).touch()
    found = list(named_files(["a key", str(tmp_path / "b"), str(tmp_path / "b/1.wav")]))
    assert found == [
        "a key",
        *(str(tmp_path / name) for name in ("b/1.wav", "b/2.wav", "b/deep/3.WAV")),
        str(tmp_path / "b/1.wav"),
    ]


@pytest.mark.parametrize("name", ["calls/2026/a.wav", "k" * 1000, "a\0b", ""])
def test_what_is_no_file_is_a_key(store: ObjectStore, name: str) -> None:
    """Also one that could not be a path at all; the store says later what it thinks of it."""
    assert list(named_files([name])) == [name]
    assert place(name, store, "") == Source(name, name)
    assert place(name, None, "") == Source(name, name)


def test_a_local_file_is_uploaded(tmp_path: Path, root: Path, store: ObjectStore) -> None:
    """Under a key that no other upload has, and that still tells its name."""
    file = tmp_path / "my clip.wav"
    file.write_bytes(b"RIFF")
    first, second = (place(str(file), store, root.as_uri()) for _ in range(2))
    assert first.name == str(file)
    assert first.key.startswith(UPLOAD_PREFIX)
    assert first.key.endswith("/my clip.wav")
    assert first.key != second.key
    assert (root / first.key).read_bytes() == b"RIFF"


def test_a_file_in_the_store_is_not_uploaded(root: Path, store: ObjectStore) -> None:
    """Its key is its path below the root, wherever it is named from."""
    (root / "ä b").mkdir()
    file = root / "ä b" / "x.wav"
    file.touch()
    assert place(str(file), store, root.as_uri()) == Source(str(file), "ä b/x.wav")
    assert [path.name for path in root.iterdir()] == ["ä b"]


def test_a_link_out_of_the_store_is_uploaded(
    tmp_path: Path, root: Path, store: ObjectStore
) -> None:
    """The store would not follow it."""
    (tmp_path / "out.wav").write_bytes(b"RIFF")
    (root / "link.wav").symlink_to(tmp_path / "out.wav")
    source = place(str(root / "link.wav"), store, root.as_uri())
    assert source.key.startswith(UPLOAD_PREFIX)


def test_a_local_file_needs_a_store(tmp_path: Path) -> None:
    """The message says which file, and what to set."""
    file = tmp_path / "a.wav"
    file.touch()
    with pytest.raises(ValueError, match=r"a\.wav is a local file: set EMO_STORE"):
        place(str(file), None, "")


def test_a_long_list_of_segments_is_uploaded(root: Path, store: ObjectStore) -> None:
    """And one that no worker would take is refused before it is sent."""
    parts = Parts(segments=(SegmentAsked(0, 1.5, "A"),) * 3)
    assert place_segments(parts, None, None, most_bytes=1_000) == parts
    placed = place_segments(parts, store, None, most_bytes=10)
    assert placed.segments is None
    assert placed.segments_from is not None
    assert parse_segments((root / placed.segments_from).read_bytes()) == parts.segments
    with pytest.raises(ValueError, match="set EMO_STORE"):
        place_segments(parts, None, None, most_bytes=10)
    many = Parts(segments=(SegmentAsked(0, 1.5, "x" * 200),) * 10_000)
    with pytest.raises(ValueError, match="may have 2097152: send it in several jobs"):
        place_segments(many, store, None, most_bytes=10)
