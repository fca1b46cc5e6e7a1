"""Decode: from encoded bytes to samples."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from storage.objects.blob import write_all
from storage.wire.channels import EACH, MIX
from worker.audio.commandline import decode_isolated
from worker.audio.lanes import require_channel
from worker.audio.limits import AudioLimits
from worker.audio.pcm import Memory
from worker.audio.processes import DecodeProcesses
from worker.audio.renditions import Decoded
from worker.audio.speech import SpeechDetector
from worker.audio.streaming import StartStream
from worker.audio.turns import SpeechOptions
from worker.audio.wav import read_plain
from worker.audio.waveform import recording_of
from worker.clip import SAMPLE_RATE_HZ, Fetched, Recording, Renditions, Waveform


class Decode:
    """Decode an object of any supported format. Thread-safe."""

    def __init__(
        self,
        processes: DecodeProcesses,
        limits: AudioLimits,
        find_speech: Callable[..., Sequence[tuple[int, int]]] | None = None,
        resampler: StartStream | None = None,
    ) -> None:
        """`processes` stay the caller's to close; `find_speech` gives turns, samples [start, stop).

        It may take 3 ms for a second of audio. With a `resampler` recordings may keep their own
        rate, for the stage that resamples them.
        """
        self._resampler = resampler
        self._find_speech = find_speech or SpeechDetector(SpeechOptions())
        self._processes = processes
        self._limits = limits
        direct_seconds = min(limits.window_seconds, limits.max_audio_seconds)
        self._max_direct_samples = int(direct_seconds * SAMPLE_RATE_HZ)

    def __call__(self, fetched: Fetched) -> Recording:
        """What was asked for of a recording, 16 kHz, nominally [-1, 1]; closes the blob.

        Plain WAV files up to a window long are read here, the rest in the decode processes. It is
        at its own rate where a resampler was given, up to a window long, and nothing but the whole
        or a channel of it is wanted: all else is made of samples at 16 kHz. Raises
        NotAudio, NoAudioStream, AudioTooShort, AudioTooLong, InvalidJob, DecodeCrashed,
        StageTimeout, SpoolUnavailable, Internal.
        """
        with fetched.blob as blob:
            channel = fetched.parts.channels
            resampler = self._resampler if _is_one_clip(fetched) else None
            plain = read_plain(blob, self._max_direct_samples, own_rate=resampler is not None)
            if plain is not None and channel not in (MIX, EACH):
                require_channel(channel, 1)
            wanted = fetched.renditions
            if plain is None:
                lanes = self._processes.decode(blob, channel, wanted, resampler)
            else:
                lanes = (plain,)
                self._render(plain, wanted)
            return self._searched(recording_of(lanes, fetched.parts, wanted))

    def isolated(self, fetched: Fetched) -> Recording:
        """The same for a suspect: by ffmpeg's command line, whatever the format.

        Raises NotAudio, AudioTooShort, AudioTooLong, InvalidJob, DecodeCrashed, StageTimeout,
        SpoolUnavailable, Internal.
        """
        spool, channel = self._processes.spool, fetched.parts.channels
        lanes = decode_isolated(
            fetched.blob,
            self._limits,
            spool,
            channel,
            renditions=fetched.renditions,
            render=self._processes.render,
        )
        return self._searched(recording_of(lanes, fetched.parts, fetched.renditions))

    def _render(self, plain: Waveform, wanted: Renditions | None) -> None:
        """What is wanted of a file that no process decoded, a process makes all the same."""
        if wanted is None:
            return
        with Memory() as memory:
            samples = plain.floats()
            write_all(memory.fd, samples.tobytes())
            self._processes.render(Decoded(memory.fd, len(samples), 1, file=False), wanted)

    def _searched(self, recording: Recording) -> Recording:
        """With the turns of speech in it, where they are asked for. Raises InvalidJob."""
        if not recording.parts.speech:
            return recording
        channels = recording.channels if recording.parts.channel == EACH else ()
        found: dict[int, Sequence[tuple[int, int]]] = {}
        for lane in (recording.whole, *channels):
            if id(lane) not in found:  # mono is its one channel
                found[id(lane)] = self._find_speech(lane.floats(), lane.forget)
        speech = tuple(found[id(lane)] for lane in (recording.whole, *channels))
        return replace(recording, speech=speech)


def _is_one_clip(fetched: Fetched) -> bool:
    """Whether nothing is asked for but one clip: no segments, turns, channels side by side."""
    parts = fetched.parts
    is_whole = parts.segments is None and not parts.speech and parts.channels != EACH
    return is_whole and fetched.renditions is None
