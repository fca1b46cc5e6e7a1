"""The second stage: from encoded bytes to a waveform."""

from storage.objects.blob import Blob
from worker.audio.commandline import decode_isolated
from worker.audio.limits import AudioLimits
from worker.audio.processes import DecodeProcesses
from worker.audio.wav import read_plain
from worker.clip import SAMPLE_RATE_HZ, Waveform


class Decode:
    """Decode an object of any supported format. Thread-safe."""

    def __init__(self, processes: DecodeProcesses, limits: AudioLimits) -> None:
        """`processes` stay the caller's to close."""
        self._processes = processes
        self._limits = limits
        direct_seconds = min(limits.window_seconds, limits.max_audio_seconds)
        self._max_direct_samples = int(direct_seconds * SAMPLE_RATE_HZ)

    def __call__(self, blob: Blob) -> Waveform:
        """Waveform: float32 (num_samples,), 16 kHz mono, nominally [-1, 1]; closes the blob.

        Plain WAV files up to a window long are read here, the rest in the decode processes. Raises
        NotAudio, NoAudioStream, AudioTooShort, AudioTooLong, DecodeCrashed, StageTimeout,
        SpoolUnavailable, Internal.
        """
        with blob:
            waveform = read_plain(blob, self._max_direct_samples)
            return self._processes.decode(blob) if waveform is None else waveform

    def isolated(self, blob: Blob) -> Waveform:
        """The same for a suspect: by ffmpeg's command line, whatever the format.

        Raises NotAudio, AudioTooShort, AudioTooLong, DecodeCrashed, StageTimeout, SpoolUnavailable,
        Internal.
        """
        return decode_isolated(blob, self._limits, self._processes.spool)
