"""Local audio files, as users name them on a command line."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

# What counts as audio in a directory that was named; a file that was named itself always does.
AUDIO_SUFFIXES = frozenset(
    {
        *(".aac", ".ac3", ".aif", ".aiff", ".amr", ".au", ".avi", ".caf", ".flac", ".m4a", ".m4v"),
        *(".mka", ".mkv", ".mov", ".mp3", ".mp4", ".mpeg", ".oga", ".ogg", ".opus", ".ts", ".w64"),
        *(".wav", ".webm", ".wma", ".wmv", ".3gp"),
    }
)


def named_files(names: Sequence[str]) -> Iterator[str]:
    """Each name, with directories opened up to the audio files in them, at any depth."""
    for name in names:
        if os.path.isdir(name):
            yield from (str(file) for file in sorted(Path(name).rglob("*")) if is_audio(file))
        else:
            yield name


def is_audio(file: Path) -> bool:
    """Whether a file's name says that it is audio."""
    return file.suffix.lower() in AUDIO_SUFFIXES and file.is_file()
