"""One file on its way through a decode process: its lanes, and its place in the spool."""

import structlog

from storage.errors import (
    AudioTooLong,
    DecodeCrashed,
    Internal,
    InvalidJob,
    JobError,
    NoAudioStream,
    NotAudio,
)
from storage.wire.channels import EACH, MOST_CHANNELS
from storage.wire.messages import Want
from worker.audio.lanes import MOST_LANES
from worker.audio.limits import AudioLimits
from worker.audio.pcm import SAMPLE_BYTES, Memory
from worker.audio.protocol import Done, Failed, Misbehaved, Part, Request
from worker.audio.renditions import Decoded, room_beside
from worker.audio.room import Spool
from worker.audio.spool import spool_failed
from worker.audio.spooling import Spooling
from worker.audio.waveform import map_lanes
from worker.clip import SAMPLE_RATE_HZ, Renditions, Waveform
from worker.warning import OF_FILES, AudioWarning, in_order

# What a process may say of a file.
_ERRORS = {
    kind.code: kind for kind in (NotAudio, NoAudioStream, AudioTooLong, DecodeCrashed, InvalidJob)
}

log = structlog.get_logger(__name__)


class Decoding:
    """What a process sends of one file, none of it trusted. Not thread-safe."""

    def __init__(
        self, limits: AudioLimits, spool: Spool, channel: str, renditions: Renditions | None
    ) -> None:
        """`channel` is what is asked for: see `Lanes`."""
        has_preview = renditions is not None and Want.PREVIEW in renditions.wanted
        self.spooling = Spooling(spool, beside=room_beside if has_preview else lambda _: 0)
        self._renditions = renditions
        self._warnings: tuple[AudioWarning, ...] = ()
        self._limits = limits
        self._channel = channel
        self._channels = 0  # of the file, where that is known
        self._part_samples = int(limits.window_seconds * SAMPLE_RATE_HZ)
        self._most_lanes = MOST_LANES if channel == EACH else 1
        self._most_samples = self._most_lanes * int(limits.max_audio_seconds * SAMPLE_RATE_HZ)

    @property
    def allowed_seconds(self) -> float:
        """Wall time it may take: earned by samples that are here, not by what is said of them."""
        return self._limits.allowed_seconds(self.spooling.num_samples / SAMPLE_RATE_HZ)

    def request(self, size: int) -> Request:
        """What is sent to the process, to begin or to begin anew."""
        return Request(
            size=size,
            sample_rate_hz=SAMPLE_RATE_HZ,
            max_audio_seconds=float(self._limits.max_audio_seconds),
            channel=self._channel,
            channels=self._channels,
        )

    def keep(self, part: Part, memory: Memory) -> bool:
        """Copy a part to the spool, if there is place, and have memory for another.

        Raises Misbehaved.
        """
        spooling = self.spooling
        self._require_allowed(spooling.num_samples + self._part_samples)
        fd = memory.sealed(self._part_samples * SAMPLE_BYTES)
        expected_samples = min(part.expected_samples, self._most_samples)
        if not spooling.append(fd, self._part_samples, expected_samples=expected_samples):
            return False
        try:
            memory.renew()
        except OSError as error:
            spooling.error = spool_failed(self._limits.spool_dir, error)
            return False
        return True

    def take(self, done: Done, memory: Memory) -> Decoded | None:
        """All lanes: in the spool where they were too many, else in memory. None for no room."""
        spooling = self.spooling
        num_samples, lanes = spooling.num_samples + done.num_samples, done.lanes
        self._require_allowed(num_samples)
        if not 1 <= lanes <= self._most_lanes or num_samples % lanes:
            raise Misbehaved(f"it sent {num_samples} samples in {lanes} lanes")
        self._warnings = _warnings(done)
        fd = memory.sealed(done.num_samples * SAMPLE_BYTES)
        if done.damaged_packets:
            log.info("decode.packets_left_out", packets=done.damaged_packets)
        if spooling.file is None:
            return Decoded(fd, num_samples, lanes, file=False)
        if not spooling.append(fd, done.num_samples, expected_samples=0):
            if spooling.error is not None:
                raise spooling.error
            return None
        spooling.file.shrink(spooling.room_for(num_samples))
        return Decoded(spooling.file.fd, num_samples, lanes, file=True)

    def lanes(self, decoded: Decoded) -> tuple[Waveform, ...]:
        """What was decoded, once all else is made of it. Raises AudioTooShort."""
        file, renditions = self.spooling.file, self._renditions
        if file is not None:
            behind_bytes = renditions.preview_bytes if renditions else 0
            file.shrink(decoded.num_samples * SAMPLE_BYTES + behind_bytes)
        return map_lanes(
            decoded.fd,
            decoded.num_samples,
            decoded.lanes,
            self._warnings,
            renditions=renditions,
            released=file.release if file is not None else None,
        )

    def begins_anew(self, channels: int) -> bool:
        """Whether it may, for so many channels: once, where each of them counts."""
        before, self._channels = self._channels, channels
        return self._channel == EACH and before == 0 and 1 < channels <= MOST_CHANNELS

    def failed(self, message: Failed) -> JobError:
        """The error that ends it."""
        return self.spooling.error or _ERRORS.get(message.code, Internal)(message.message)

    def _require_allowed(self, num_samples: int) -> None:
        if num_samples > self._most_samples:
            raise Misbehaved("it sent more audio than it may")


def _warnings(done: Done) -> tuple[AudioWarning, ...]:
    """What it warns of. Raises Misbehaved."""
    told = done.warnings.split(",") if done.warnings else []
    if not set(told) <= set(OF_FILES):
        raise Misbehaved(f"it warned of {done.warnings!r:.100}")
    return in_order(map(AudioWarning, told))
