"""The stages one after another, without threads, for tests of what comes out of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from storage.objects.blob import Blob
from storage.wire.messages import Job, Want
from tests.support.audio_files import wav
from worker.audio.waveform import recording_of
from worker.clip import Fetched, Recording, Views, Waveform
from worker.engine.eager import SegmentOutput
from worker.engine.engine import Engine
from worker.stages.infer import Classified, Infer
from worker.stages.normalize import Normalize
from worker.tape import Segment

Asked = tuple[Job, Recording]
BOTH = frozenset({Want.PEAKS, Want.PREVIEW})  # of a job's renditions


@dataclass(frozen=True, slots=True)
class Stages:
    """Normalize and infer; what is given together shares its tapes."""

    engine: Engine
    window_seconds: float = 30.0

    def __call__(self, *asked: Asked) -> list[Classified]:
        """The results of recordings, whose windows lie on the tapes in turn."""
        infer = Infer(self.engine)
        views = [self.views(recording) for _, recording in asked]
        segments = [infer.segments(job, view) for (job, _), view in zip(asked, views, strict=True)]
        waiting = sorted(
            ((turn, owner) for owner, own in enumerate(segments) for turn in range(len(own))),
            reverse=True,
        )
        outputs: list[list[SegmentOutput]] = [[] for _ in asked]
        while waiting:
            tape: list[Segment] = []
            owners: list[int] = []
            room = infer.tape_slots
            while waiting and infer.slots(segments[waiting[-1][1]][waiting[-1][0]]) <= room:
                turn, owner = waiting.pop()
                tape.append(segments[owner][turn])
                owners.append(owner)
                room -= infer.slots(tape[-1])
            for owner, output in zip(owners, infer.finish(infer.start(tape)), strict=True):
                outputs[owner].append(output)
        return [infer.conclude(view, own) for view, own in zip(views, outputs, strict=True)]

    def views(self, recording: Recording) -> Views:
        """The clips of a recording."""
        return Normalize(self.window_seconds, max_audio_seconds=7200)(recording)


def recording(lanes: Sequence[ArrayLike], job: Job) -> Recording:
    """What decoding lanes of float32 (num_samples,) would give a job."""
    return recording_of([Waveform(np.asarray(lane, np.float32)) for lane in lanes], job.parts)


def float_wav(samples: ArrayLike, sample_rate_hz: int = 16_000) -> bytes:
    """A WAV file of float32 (num_samples,) as they are."""
    data = np.asarray(samples, np.float32).tobytes()
    return wav(data, form=3, bits=32, sample_rate_hz=sample_rate_hz)


def decoded(decode: Callable[[Fetched], Recording], data: bytes, job: Job) -> Asked:
    """A file as the decode stage gives it to a job."""
    return job, decode(Fetched(Blob.from_bytes(data), job.parts))
