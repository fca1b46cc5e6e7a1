"""Local audio files, as users name them on a command line."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

# What counts as audio in a directory that was named; a file that was named itself always does.
AUDIO_SUFFIXES = frozenset(
    {
        *(".3gp", ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".asf", ".au", ".avi"),
        *(".awb", ".caf", ".dsf", ".eac3", ".ec3", ".flac", ".flv", ".latm", ".loas", ".m2ts"),
        *(".m4a", ".m4b", ".m4v", ".mka", ".mkv", ".mov", ".mp+", ".mp1", ".mp2", ".mp3", ".mp4"),
        *(".mpc", ".mpeg", ".mpg", ".nist", ".oga", ".ogg", ".opus", ".snd", ".sph", ".spx"),
        *(".ts", ".tta", ".voc", ".vob", ".w64", ".wav", ".webm", ".wma", ".wmv", ".wv", ".wv1"),
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
