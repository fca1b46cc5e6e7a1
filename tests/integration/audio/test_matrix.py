"""Every format, with its codecs, rates, channels and bits: against ffmpeg's program and the source.

Warnings are not looked at here.
"""

import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest
from numpy.typing import NDArray

from storage.objects.blob import Blob
from tests.support.audio_files import ample_limits, encode
from tests.support.audio_matrix import LAYOUTS, Row, rows
from tests.support.handmade_audio import speech
from worker.audio.formats import DECODERS, FORMATS, command_line_filters
from worker.audio.processes import DecodeProcesses
from worker.clip import SAMPLE_RATE_HZ

LEAST_CORRELATION = 0.9999
MOST_LEVEL_DB = 0.1
LONGEST_FRAME = 1_152  # samples, of the codecs whose last frame a newer ffmpeg trims


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DecodeProcesses]:
    """One decode process, confined as a worker's are."""
    processes = DecodeProcesses(1, ample_limits(tmp_path_factory.mktemp("spool")))
    yield processes
    processes.close()


@pytest.mark.parametrize("demuxer", FORMATS.split(","))
def test_a_format_is_decoded_right(
    demuxer: str, processes: DecodeProcesses, tmp_path: Path
) -> None:
    """Its files give what ffmpeg's program gives, and what was put in where nothing is lost."""
    tried = [row for row in rows() if row.demuxer == demuxer]
    assert tried, "no file of this format is tried"
    paths = [tmp_path / str(number) for number, _ in enumerate(tried)]
    for row, path in zip(tried, paths, strict=True):
        path.write_bytes(row.make())
    references = decoded_by_ffmpeg(paths)
    wrong = {}
    for row, path, reference in zip(tried, paths, references, strict=True):
        samples = decoded(processes, path.read_bytes())
        faults = [
            *opened_otherwise(row, path),
            *unlike_ffmpeg(row, samples, reference),
            *(unlike_source(row, samples, processes) if row.kind in ("exact", "lossless") else ()),
        ]
        if faults:
            wrong[row.name] = faults
    assert wrong == {}


def opened_otherwise(row: Row, path: Path) -> Iterator[str]:
    """What is wrong where the file is not of the format and codec that it was made to be of."""
    with av.open(str(path)) as container:
        formats, decoder = container.format.name, container.streams.audio[0].codec_context.name
    if row.demuxer not in formats.split(",") or decoder != row.decoder:
        yield f"is {decoder} in {formats}"


def unlike_ffmpeg(
    row: Row, samples: NDArray[np.float32], reference: NDArray[np.float32]
) -> Iterator[str]:
    """What is wrong with (num_samples,), given those of the program."""
    trimmed = LONGEST_FRAME * SAMPLE_RATE_HZ / row.sample_rate_hz if row.kind == "longer" else 0
    if not 0 <= len(samples) - len(reference) <= trimmed:
        yield f"{len(samples)} samples, {len(reference)} by ffmpeg"
    common = min(len(samples), len(reference))
    correlation = np.corrcoef(samples[:common], reference[:common])[0, 1]
    if not correlation >= LEAST_CORRELATION:
        yield f"correlates with ffmpeg's by {correlation:.5f}"
    powers = [np.mean(part[:common].astype(float) ** 2) for part in (samples, reference)]
    level_db = 10 * np.log10(powers[0] / powers[1])
    if not abs(level_db) <= MOST_LEVEL_DB:
        yield f"{level_db:+.2f} dB above ffmpeg's"


def unlike_source(
    row: Row, samples: NDArray[np.float32], processes: DecodeProcesses
) -> Iterator[str]:
    """What is wrong with (num_samples,), given what was put in."""
    source = source_samples(row.sample_rate_hz, row.channels, processes)
    if len(samples) != len(source):
        yield f"{len(samples)} samples, {len(source)} were put in"
    elif row.kind == "lossless":
        steps = np.abs(samples - source).max() * 2 ** (row.bits - 1)
        if not steps <= 2:  # half of one is rounding, and resampling adds to it
            yield f"{steps:.1f} quantization steps from the source"


@functools.cache
def source_samples(
    sample_rate_hz: int, channels: int, processes: DecodeProcesses
) -> NDArray[np.float32]:
    """What was put in, mixed and resampled: (num_samples,)."""
    planes = speech(sample_rate_hz, channels)  # (channels, num_samples)
    if sample_rate_hz == SAMPLE_RATE_HZ and channels in (1, 2):
        mixed: NDArray[np.float32] = planes.mean(axis=0)
        return mixed
    layout = LAYOUTS[channels]
    file = encode(planes, sample_rate_hz, container="wav", codec="pcm_f32le", layout=layout)
    samples = decoded(processes, file)
    expected = planes.shape[1] * SAMPLE_RATE_HZ / sample_rate_hz
    assert len(samples) == pytest.approx(expected, abs=1)
    return samples


def decoded(processes: DecodeProcesses, data: bytes) -> NDArray[np.float32]:
    """By a decode process."""
    with Blob.from_bytes(data) as blob:
        return processes.decode(blob)[0].floats()


def decoded_by_ffmpeg(paths: list[Path]) -> list[NDArray[np.float32]]:
    """By one run of the bundled program, allowed no more than ours; (num_samples,) of each."""
    line = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-xerror"]
    for path in paths:
        line += ["-protocol_whitelist", "file", "-format_whitelist", FORMATS]
        line += ["-codec_whitelist", DECODERS, "-threads", "1", "-i", str(path)]
    for number, path in enumerate(paths):
        line += ["-map", f"{number}:a:0", "-af", command_line_filters(SAMPLE_RATE_HZ)]
        line += ["-f", "f32le", f"{path}.f32"]
    subprocess.run(line, check=True, timeout=60)
    return [np.fromfile(f"{path}.f32", np.float32) for path in paths]
