"""What a result hash says of a recording that was classified; see docs/wire.md."""

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from storage.objects.store import Put
from storage.queue.streams import as_field
from storage.wire.messages import LISTS, Want
from worker.clip import Renditions
from worker.engine.prediction import Prediction, Timeline
from worker.pipeline.task import Task
from worker.stages.infer import Classified, ClassifiedCut, ClassifiedView
from worker.warning import AudioWarning, as_told

MOST_FIELD_BYTES = 64 * 1024  # a longer list goes to the output store


class Results:
    """Fields of result hashes. Thread-safe, as `put` is.

    `put` stores an output, as `ObjectStore.put` does; `describe` holds the fields that are the same
    for every job of this worker: they are `common`, and not told of each.
    """

    def __init__(
        self, put: Put, *, output_prefix: str, describe: Mapping[str, str], untrained: bool
    ) -> None:
        self._put = put
        self._output_prefix = output_prefix
        self.common = dict(describe)
        self._untrained = untrained

    def fields(self, task: Task) -> dict[str, str]:
        """The fields of a task's result; outputs that it wants are stored. Raises JobError."""
        classified: Classified = task.value
        prediction = classified.prediction
        timeline = Want.TIMELINE in task.job.want
        told = tell(classified, timeline=timeline, untrained=self._untrained)
        fields = {
            "label": prediction.label,
            "score": as_field(prediction.score),
            "scores": as_field(told.pop("scores")),
            "duration_s": as_field(told.pop("duration_s")),
            **{f"{stage}_ms": f"{ms:.1f}" for stage, ms in task.milliseconds.items()},
            "batch_clips": str(task.batch_clips),
        }
        for name in ("warning", "segments_found", "speech_s"):
            if name in told:
                fields[name] = as_field(told[name])
        for name in LISTS:
            if name in told:
                fields |= self._list(task, name, to_json(told.pop(name)))
        if Want.EMBEDDING in task.job.want:
            fields["embedding_key"] = self._store_array(task, "embedding", prediction.embedding)
        if Want.FRAMES in task.job.want and prediction.frames is not None:
            fields["frames_key"] = self._store_array(task, "frames", prediction.frames)
        fields |= self._renditions(task, classified.renditions)
        return fields

    def _renditions(self, task: Task, renditions: Renditions | None) -> dict[str, str]:
        """What was made of the recording, each an object that a field names."""
        fields = {}
        if renditions is not None and Want.PEAKS in renditions.wanted:
            stored = self._store(task, "peaks", "dat", renditions.peaks, "application/octet-stream")
            fields["peaks_key"] = stored
        if renditions is not None and Want.PREVIEW in renditions.wanted:
            stored = self._store(task, "preview", "mp3", renditions.preview, "audio/mpeg")
            fields["preview_key"] = stored
        return fields

    def _list(self, task: Task, name: str, data: bytes) -> dict[str, str]:
        """A list in JSON as a field, or where it is long as an object that a field names."""
        if len(data) <= MOST_FIELD_BYTES:
            return {name: data.decode()}
        return {f"{name}_key": self._store(task, name, "json", data, "application/json")}

    def _store_array(self, task: Task, name: str, array: NDArray[np.float32]) -> str:
        encoded = io.BytesIO()
        np.save(encoded, array, allow_pickle=False)
        return self._store(task, name, "npy", encoded.getvalue(), "application/octet-stream")

    def _store(
        self, task: Task, name: str, suffix: str, data: bytes | memoryview, content_type: str
    ) -> str:
        # Keys of its own for each run: a late worker must not overwrite what a newer one wrote.
        run = f".{task.ticket.run}" if task.ticket.run > 1 else ""
        key = f"{self._output_prefix}{task.job.id}.{name}{run}.{suffix}"
        self._put(key, data, content_type=content_type)
        return key


def tell(classified: Classified, *, timeline: bool, untrained: bool) -> dict[str, Any]:
    """A result as JSON values; `warning` and lists only where there are any.

    Timelines and segments are iterators: thousands of them are told one by one.
    """
    doubts = [*classified.warnings, *[AudioWarning.UNTRAINED_MODEL] * untrained]
    told = _view(classified.top, timeline=timeline, doubts=doubts)
    told["duration_s"] = round(classified.duration_seconds, 3)
    if classified.channels is not None:
        told["channels"] = [
            {"channel": view.channel, **_view(view, timeline=timeline)}
            for view in classified.channels
        ]
    return told


def _view(
    view: ClassifiedView, *, timeline: bool, doubts: Sequence[AudioWarning] = ()
) -> dict[str, Any]:
    """A channel, or the mix. With segments, a timeline is that of each."""
    told = _prediction(view.prediction, timeline=timeline and not view.cuts)
    found = [*doubts, *[AudioWarning.SILENT] * view.silent]
    if view.cuts is not None:
        told["segments"] = (_segment(cut, timeline=timeline) for cut in view.cuts)
    if view.searched:
        turns = view.cuts or ()
        told["segments_found"] = len(turns)
        told["speech_s"] = round(sum(turn.end_seconds - turn.start_seconds for turn in turns), 3)
        found += [AudioWarning.NO_SPEECH] * (not turns)
    if found:
        told["warning"] = as_told(found)
    return told


def _segment(cut: ClassifiedCut, *, timeline: bool) -> dict[str, Any]:
    """Where it is of a list, its times are as they were listed."""
    if cut.asked is None:
        told: dict[str, Any] = {
            "start_s": round(cut.start_seconds, 3),
            "end_s": round(cut.end_seconds, 3),
        }
    else:
        told = {"start_s": cut.start_seconds, "end_s": cut.end_seconds}
        about = {"speaker": cut.asked.speaker, "channel": cut.asked.channel}
        told |= {name: value for name, value in about.items() if value is not None}
    told |= _prediction(cut.prediction, timeline=timeline)
    if cut.silent:
        told["warning"] = AudioWarning.SILENT.value
    return told


def _prediction(prediction: Prediction, *, timeline: bool) -> dict[str, Any]:
    told: dict[str, Any] = {
        "label": prediction.label,
        "score": round(prediction.score, 6),
        "scores": _rounded(prediction.scores),
    }
    if timeline:
        told["timeline"] = _items(prediction.timeline)
    return told


def _items(timeline: Timeline) -> Iterator[dict[str, Any]]:
    for part in timeline:
        yield {
            "start_s": round(part.start_seconds, 3),
            "end_s": round(part.stop_seconds, 3),
            "scores": _rounded(part.scores),
        }


def _rounded(scores: Mapping[str, float]) -> dict[str, float]:
    return {label: round(score, 6) for label, score in scores.items()}
