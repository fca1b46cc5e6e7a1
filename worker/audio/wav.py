"""The direct reader: the one format that needs no decoder, ten times cheaper than any."""

import os

import numpy as np

from storage.objects.blob import Blob
from worker.audio.rates import Form, is_left_to_device
from worker.audio.riff import FORMAT_FLOAT, FORMAT_PCM, read_header
from worker.audio.waveform import require_one_frame
from worker.clip import SAMPLE_RATE_HZ, Pcm, Waveform


def read_plain(blob: Blob, max_samples: int, *, own_rate: bool = False) -> Waveform | None:
    """Waveform of a 16 kHz mono WAV of 16-bit integers or 32-bit floats, up to `max_samples`.

    With `own_rate` that may be any rate that a device resamples, and as many samples as a decode
    process would leave in memory. Its samples are those of the file. None for everything else, odd
    or broken files included: a decode process judges those. Raises AudioTooShort.
    """
    header = read_header(blob.fd, blob.size)
    if header is None or header.channels != 1:
        return None
    if (header.format, header.bits) not in ((FORMAT_PCM, 16), (FORMAT_FLOAT, 32)):
        return None
    sample_bytes, rate_hz = header.bits // 8, header.sample_rate_hz
    if rate_hz != SAMPLE_RATE_HZ:
        if not (own_rate and is_left_to_device(rate_hz, SAMPLE_RATE_HZ)):
            return None
        max_samples = Form(rate_hz, sample_bytes).part_samples(max_samples, SAMPLE_RATE_HZ)
    num_samples = header.data_bytes // sample_bytes
    if not 0 < num_samples <= max_samples:
        return None
    require_one_frame(num_samples, rate_hz)
    # Read, not mapped: a file that shrinks under a map kills the process.
    data = os.pread(blob.fd, num_samples * sample_bytes, header.data_offset)
    if len(data) < num_samples * sample_bytes:
        return None
    samples: Pcm = np.frombuffer(data, "<i2" if header.format == FORMAT_PCM else "<f4")
    return Waveform(samples, header.warnings, sample_rate_hz=rate_hz)
