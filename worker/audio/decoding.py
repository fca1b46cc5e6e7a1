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
from worker.audio.rates import INT16_BYTES, Form, is_left_to_device
from worker.audio.renditions import Decoded, room_beside
from worker.audio.room import Spool
from worker.audio.spool import spool_failed
from worker.audio.spooling import Spooling
from worker.audio.streaming import Resampled, StartStream
from worker.audio.waveform import MODEL_FORM, map_lanes
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
        self,
        limits: AudioLimits,
        spool: Spool,
        channel: str,
        renditions: Renditions | None,
        resampler: StartStream | None = None,
    ) -> None:
        """`channel` is what is asked for: see `Lanes`.

        With a `resampler`, one lane of which nothing is rendered may keep its own rate; of what is
        longer than one memory, that is resampled here.
        """
        has_preview = renditions is not None and Want.PREVIEW in renditions.wanted
        self.spooling = Spooling(spool, beside=room_beside if has_preview else lambda _: 0)
        self._renditions = renditions
        self._warnings: tuple[AudioWarning, ...] = ()
        self._limits = limits
        self._channel = channel
        self._resampler = None if renditions is not None or channel == EACH else resampler
        self._resampled: Resampled | None = None
        self._channels = 0  # of the file, where that is known
        self._part_samples = int(limits.window_seconds * SAMPLE_RATE_HZ)
        self._most_lanes = MOST_LANES if channel == EACH else 1
        self._most_samples = self._most_lanes * int(limits.max_audio_seconds * SAMPLE_RATE_HZ)

    @property
    def allowed_seconds(self) -> float:
        """Wall time it may take: earned by samples that are here, not by what is said of them."""
        if self._resampled is not None:
            return self._limits.allowed_seconds(self._resampled.seconds)
        return self._limits.allowed_seconds(self.spooling.num_samples / SAMPLE_RATE_HZ)

    def request(self, size: int) -> Request:
        """What is sent to the process, to begin or to begin anew."""
        return Request(
            size=size,
            sample_rate_hz=SAMPLE_RATE_HZ,
            max_audio_seconds=float(self._limits.max_audio_seconds),
            channel=self._channel,
            channels=self._channels,
            own_rate=self._resampler is not None,
        )

    def keep(self, part: Part, memory: Memory) -> bool:
        """Copy a part to the spool, if there is place, and have memory for another.

        Raises Misbehaved.
        """
        spooling, form = self.spooling, self._form(part)
        if form != MODEL_FORM:
            return self._keep_resampled(part, form, memory)
        self._require_allowed(spooling.num_samples + self._part_samples)
        fd = memory.sealed(self._part_samples * SAMPLE_BYTES)
        expected_samples = min(part.expected_samples, self._most_samples)
        if not spooling.append(fd, self._part_samples, expected_samples=expected_samples):
            return False
        return self._renewed(memory)

    def take(self, done: Done, memory: Memory) -> Decoded | None:
        """All lanes: in the spool where they were too many, else in memory. None for no room."""
        form, lanes, before = self._form(done), done.lanes, self._resampled
        came_samples = self.spooling.num_samples if before is None else before.num_samples
        num_samples = came_samples + done.num_samples
        self._require_allowed(num_samples, form)
        if not 1 <= lanes <= self._most_lanes or num_samples % lanes:
            raise Misbehaved(f"it sent {num_samples} samples in {lanes} lanes")
        self._warnings = _warnings(done)
        fd = memory.sealed(done.num_samples * form.sample_bytes)
        if done.damaged_packets:
            log.info("decode.packets_left_out", packets=done.damaged_packets)
        if form == MODEL_FORM:
            return self._all(fd, done.num_samples, lanes)
        if before is None:
            if num_samples > form.part_samples(self._part_samples, SAMPLE_RATE_HZ):
                raise Misbehaved("it left more in memory than it may")
            return Decoded(fd, num_samples, lanes, file=False, form=form)
        last = before.append(fd, done.num_samples, expected_samples=0, last=True)
        rest = before.finish() if last else None
        if rest is None:
            self._require_use()
            return None
        return self._all(*rest, lanes)

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
            form=decoded.form or MODEL_FORM,
        )

    def begins_anew(self, channels: int) -> bool:
        """Whether it may, for so many channels: once, where each of them counts.

        Or once for 0, at the rate of the model, where it was to keep its own.
        """
        if channels == 0 and self._resampler is not None:
            self._resampler = None
            return True
        before, self._channels = self._channels, channels
        return self._channel == EACH and before == 0 and 1 < channels <= MOST_CHANNELS

    def begin_anew(self) -> None:
        """Let go of all that has come. Raises as `Spooling.begin_again` does."""
        self.close()
        self.spooling.begin_again()

    def close(self) -> None:
        """Give back the memory of its own; harmless where there is none."""
        resampled, self._resampled = self._resampled, None
        if resampled is not None:
            resampled.close()

    def failed(self, message: Failed) -> JobError:
        """The error that ends it."""
        return self.spooling.error or _ERRORS.get(message.code, Internal)(message.message)

    def _keep_resampled(self, part: Part, form: Form, memory: Memory) -> bool:
        """Resample a part, and keep what that makes of it. Raises Misbehaved."""
        part_samples = form.part_samples(self._part_samples, SAMPLE_RATE_HZ)
        came_samples = self._resampled.num_samples if self._resampled is not None else 0
        self._require_allowed(came_samples + part_samples, form)
        fd = memory.sealed(part_samples * form.sample_bytes)
        most_samples = form.within(self._most_samples, SAMPLE_RATE_HZ)
        expected_samples = min(part.expected_samples, most_samples)
        try:
            if self._resampled is None:
                assert self._resampler is not None  # `_form` has seen to it
                stream = self._resampler.stream(form.sample_rate_hz)
                self._resampled = Resampled(stream, form, self.spooling, self._part_samples)
            kept = self._resampled.append(
                fd, part_samples, expected_samples=expected_samples, last=False
            )
        except Exception as error:  # the process waits for an answer, and gets one
            log.exception("decode.not_resampled", sample_rate_hz=form.sample_rate_hz)
            self.spooling.error = Internal(f"resampling failed: {type(error).__name__}: {error}")
            return False
        return kept and self._renewed(memory)

    def _renewed(self, memory: Memory) -> bool:
        """Whether there is memory for another part."""
        try:
            memory.renew()
        except OSError as error:
            self.spooling.error = spool_failed(self._limits.spool_dir, error)
            return False
        return True

    def _all(self, fd: int, last_samples: int, lanes: int) -> Decoded | None:
        """All samples, of which the last are behind `fd`. None for no room."""
        spooling = self.spooling
        num_samples = spooling.num_samples + last_samples
        if spooling.file is None:
            return Decoded(fd, num_samples, lanes, file=False)
        if not spooling.append(fd, last_samples, expected_samples=0):
            self._require_use()
            return None
        spooling.file.shrink(spooling.room_for(num_samples))
        return Decoded(spooling.file.fd, num_samples, lanes, file=True)

    def _require_use(self) -> None:
        """Raise the JobError where it is of no use to begin anew."""
        if self.spooling.error is not None:
            raise self.spooling.error

    def _form(self, said: Part | Done) -> Form:
        """The form of what came. Raises Misbehaved where that is not what it may be."""
        if said.own_rate_hz:
            form = Form(said.own_rate_hz, said.sample_bytes)
            may = (
                self._resampler is not None
                and form.sample_bytes in (INT16_BYTES, SAMPLE_BYTES)
                and is_left_to_device(form.sample_rate_hz, SAMPLE_RATE_HZ)
            )
        else:
            form, may = MODEL_FORM, said.sample_bytes == SAMPLE_BYTES
        before = MODEL_FORM if self.spooling.num_samples else form
        if not may or form != (before if self._resampled is None else self._resampled.form):
            raise Misbehaved(f"it sent samples of {said.own_rate_hz} Hz, {said.sample_bytes} bytes")
        return form

    def _require_allowed(self, num_samples: int, form: Form = MODEL_FORM) -> None:
        if num_samples > form.within(self._most_samples, SAMPLE_RATE_HZ):
            raise Misbehaved("it sent more audio than it may")


def _warnings(done: Done) -> tuple[AudioWarning, ...]:
    """What it warns of. Raises Misbehaved."""
    told = done.warnings.split(",") if done.warnings else []
    if not set(told) <= set(OF_FILES):
        raise Misbehaved(f"it warned of {done.warnings!r:.100}")
    return in_order(map(AudioWarning, told))
