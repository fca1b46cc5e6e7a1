"""Infer: windows of many clips at once through the network, and back to one result a clip."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from storage.errors import InvalidJob
from storage.messages import Job, Want
from worker.clip import SAMPLE_RATE_HZ, Clip, num_frames
from worker.engine.eager import SegmentOutput
from worker.engine.engine import Engine, Started
from worker.engine.prediction import Prediction
from worker.tape import Segment
from worker.warning import AudioWarning

LONGEST_FRAMES_SECONDS = 600.0
_FLOAT32_BYTES = 4


@dataclass(frozen=True, slots=True)
class Classified:
    """What the pipeline makes of one clip."""

    prediction: Prediction
    duration_seconds: float
    warnings: tuple[AudioWarning, ...] = ()


class Infer:
    """`finish(start(segments)) -> outputs`. Not thread-safe; owned by the infer thread."""

    def __init__(
        self, engine: Engine, *, worked: Callable[[float], None] = lambda seconds: None
    ) -> None:
        """`worked` is told how many seconds the device worked on each tape."""
        self._engine = engine
        self._worked = worked

    @property
    def most_frames_bytes(self) -> int:
        """What the frames of one clip can hold, and once more while they are written down."""
        frames = num_frames(int(LONGEST_FRAMES_SECONDS * SAMPLE_RATE_HZ))
        return 2 * _FLOAT32_BYTES * frames * self._engine.model.config.embed_dim

    def warm_up(self) -> float:
        """Prepare each shape; returns the seconds of a full tape. Raises JobError."""
        return self._engine.warm_up()

    @property
    def tape_slots(self) -> int:
        """Slots on one tape; the engine lowers it where memory is short."""
        return self._engine.tape_slots

    def slots(self, segment: Segment) -> int:
        """Slots that a segment takes on the tape."""
        return self._engine.slots(segment.window)

    def segments(self, job: Job, clip: Clip) -> list[Segment]:
        """The clip's windows. Raises InvalidJob where frames are asked of too long a clip."""
        keep_frames = Want.FRAMES in job.want
        if keep_frames and clip.waveform.duration_seconds > LONGEST_FRAMES_SECONDS:
            raise InvalidJob(
                f"field 'want': frames are given for up to {LONGEST_FRAMES_SECONDS:.0f} s of "
                f"audio; this clip is {clip.waveform.duration_seconds:.0f} s long"
            )
        return [Segment(clip, window, keep_frames) for window in clip.windows]

    def start(self, segments: Sequence[Segment]) -> Started:
        """Start a tape, while at most one other is running."""
        return self._engine.start(segments)

    def finish(self, started: Started) -> list[SegmentOutput]:
        """One output for each segment, in order; one that does not fit the device has an error."""
        before = self._engine.device_seconds
        outputs = self._engine.finish(started)
        self._worked(self._engine.device_seconds - before)
        return outputs

    def conclude(self, clip: Clip, outputs: Sequence[SegmentOutput]) -> Classified:
        """Pool the windows of a clip. Raises the JobError of a window that has one."""
        return Classified(
            self._engine.pool(outputs), clip.waveform.duration_seconds, clip.waveform.warnings
        )
