"""Infer: windows of many clips at once through the network, and back to one result a clip."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from storage.errors import InvalidJob
from storage.wire.channels import EACH
from storage.wire.messages import Job, Want
from storage.wire.parts import Parts, SegmentAsked
from worker.clip import SAMPLE_RATE_HZ, Renditions, View, Views, num_frames
from worker.engine.eager import SegmentOutput
from worker.engine.engine import Engine, Started
from worker.engine.prediction import Prediction, pool
from worker.tape import Segment
from worker.warning import AudioWarning

LONGEST_FRAMES_SECONDS = 600.0
_FLOAT32_BYTES = 4


@dataclass(frozen=True, slots=True)
class ClassifiedCut:
    """A segment of a recording, seconds [start, end)."""

    start_seconds: float
    end_seconds: float
    prediction: Prediction
    silent: bool
    asked: SegmentAsked | None


@dataclass(frozen=True, slots=True)
class ClassifiedView:
    """A channel of a recording, or the mix. Of segments, all of them together are classified."""

    prediction: Prediction
    silent: bool
    cuts: tuple[ClassifiedCut, ...] | None = None
    channel: int | None = None
    searched: bool = False  # for speech, which the segments are


@dataclass(frozen=True, slots=True)
class Classified:
    """What the pipeline makes of one recording."""

    top: ClassifiedView
    duration_seconds: float
    warnings: tuple[AudioWarning, ...] = ()  # of the file
    channels: tuple[ClassifiedView, ...] | None = None  # None where they were not asked for
    renditions: Renditions | None = None

    @property
    def prediction(self) -> Prediction:
        """What is said of the recording at the top."""
        return self.top.prediction


class Infer:
    """`finish(start(segments)) -> outputs`. Not thread-safe; owned by the infer thread."""

    def __init__(
        self, engine: Engine, *, worked: Callable[[float, int, int], None] = lambda *_: None
    ) -> None:
        """`worked` is told of each tape the seconds of the device, slots used, and slots run."""
        self._engine = engine
        self._worked = worked
        self._told = (0.0, 0, 0)

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

    def even(self, segments: Sequence[Segment]) -> int:
        """How many of the first segments make the best tape, where more wait behind them."""
        return self._engine.even(segments)

    def segments(self, job: Job, views: Views) -> list[Segment]:
        """The windows of all clips. Raises InvalidJob for what this model cannot give."""
        keep_frames = Want.FRAMES in job.want
        if keep_frames and views.duration_seconds > LONGEST_FRAMES_SECONDS:
            raise InvalidJob(
                f"field 'want': frames are given for up to {LONGEST_FRAMES_SECONDS:.0f} s of "
                f"audio; this clip is {views.duration_seconds:.0f} s long"
            )
        self._labels(views.parts)
        hops = views.parts.hop_s is not None
        return [
            Segment(clip, window, keep_frames and clip is views.top.whole, hops)
            for clip in views.clips
            for window in clip.windows
        ]

    def start(self, segments: Sequence[Segment]) -> Started:
        """Start a tape, while at most one other is running."""
        return self._engine.start(segments)

    def finish(self, started: Started) -> list[SegmentOutput]:
        """One output for each segment, in order; one that does not fit the device has an error."""
        outputs = self._engine.finish(started)
        now = self._engine.device_seconds, self._engine.slots_used, self._engine.slots_run
        seconds, used, run = (value - told for value, told in zip(now, self._told, strict=True))
        self._worked(seconds, int(used), int(run))
        self._told = now
        return list(map(self._reduced, started.segments, outputs))

    def conclude(self, views: Views, outputs: Sequence[SegmentOutput]) -> Classified:
        """Pool the windows of each clip. Raises the JobError of a window that has one."""
        rest = iter(outputs)
        of_clip = {id(clip): list(islice(rest, len(clip.windows))) for clip in views.clips}
        channels = tuple(self._concluded(view, views, of_clip) for view in views.channels)
        return Classified(
            self._concluded(views.top, views, of_clip),
            views.duration_seconds,
            views.warnings,
            channels if views.parts.channel == EACH else None,
            views.renditions,
        )

    def _reduced(self, segment: Segment, output: SegmentOutput) -> SegmentOutput:
        """A timeline takes a few logits a frame: hours of frames would be gigabytes."""
        if not segment.keep_logits or output.frames is None:
            return output
        logits = self._engine.model.classifier.logits(output.frames)  # (frames, labels)
        return replace(output, logits=logits, frames=output.frames if segment.keep_frames else None)

    def _concluded(
        self, view: View, views: Views, of_clip: Mapping[int, list[SegmentOutput]]
    ) -> ClassifiedView:
        parts = views.parts
        labels = self._labels(parts)

        def pooled(
            outputs: Sequence[SegmentOutput], hop_s: float | None, start_seconds: float = 0.0
        ) -> Prediction:
            return pool(
                self._engine.model,
                outputs,
                labels=labels,
                hop_seconds=hop_s,
                start_seconds=start_seconds,
            )

        cuts = tuple(
            ClassifiedCut(
                cut.start_seconds,
                cut.end_seconds,
                pooled(of_clip[id(cut.clip)], parts.hop_s, cut.start_seconds),
                cut.clip.silent,
                cut.asked,
            )
            for cut in view.cuts or ()
        )
        together = [output for clip in view.clips for output in of_clip[id(clip)]]
        silent = all(clip.silent for clip in view.clips)
        segmented = None if view.cuts is None else cuts
        # With segments, a timeline is that of each.
        prediction = pooled(together, None if cuts else parts.hop_s)
        return ClassifiedView(prediction, silent, segmented, view.channel, searched=parts.speech)

    def _labels(self, parts: Parts) -> list[int]:
        """The numbers of the labels that count, in the model's order. Raises InvalidJob."""
        if not parts.labels:
            return []
        known = self._engine.model.config.labels
        if unknown := [label for label in parts.labels if label not in known]:
            raise InvalidJob(
                f"field 'labels': {unknown[0][:40]!r} is not one of {', '.join(known)}"
            )
        return [number for number, label in enumerate(known) if label in parts.labels]
