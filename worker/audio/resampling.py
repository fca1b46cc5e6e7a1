"""Frames of one form to mono lanes in another. Free of numpy."""

from collections.abc import Iterable, Iterator, Sequence

from av.audio.frame import AudioFrame
from av.filter import Graph
from av.filter.context import FilterContext

from storage.errors import NotAudio
from worker.audio.formats import ALIKE, as_text, counts_alike, pick_options, resample_options
from worker.audio.limits import require_sound_rate
from worker.audio.rates import INT16_BYTES, Form

# Asking the graph after every packet costs more than the resampling: most answers are exceptions.
_BATCH_SAMPLES = 65_536
_CHUNK_SAMPLES = 16_384


class Resampler:
    """Frames of one form to lanes, interleaved: each as if its channel were all there is."""

    def __init__(self, first: AudioFrame, form: Form, lanes: Sequence[int | None]) -> None:
        """Be ready for frames like the `first`. A lane is a channel, or None for the mix.

        Raises NotAudio.
        """
        self._rate_hz = rate_hz = first.sample_rate
        self._layout = first.layout
        self._format = sample_format = first.format.name
        require_sound_rate(rate_hz)
        self._sample_bytes = len(lanes) * form.sample_bytes  # of all lanes
        self._waiting_samples = 0
        self._graph = Graph()
        self._graph.threads = 1  # others would be started for each file anew, and may not be
        self._source = self._graph.add_abuffer(
            sample_rate=rate_hz, format=sample_format, layout=first.layout.name
        )
        self._sink = self._graph.add("abuffersink")
        target = "s16" if form.sample_bytes == INT16_BYTES else "flt"
        try:
            self._link(lanes, as_text(resample_options(form.sample_rate_hz, target)))
            self._graph.configure()
        except ValueError as error:
            name = first.layout.name
            raise NotAudio(f"its channels ({name}) cannot be mixed down to mono") from error
        self._graph.set_audio_frame_size(_CHUNK_SAMPLES)

    def takes(self, frame: AudioFrame) -> bool:
        """Whether it is of the form that this was made for."""
        return (
            frame.sample_rate == self._rate_hz
            and frame.layout == self._layout
            and frame.format.name == self._format
        )

    def push(self, frame: AudioFrame | None) -> Iterable[memoryview]:
        """Take a frame, or None at the end, and give the samples that are ready."""
        self._source.push(frame)
        if frame is not None:
            self._waiting_samples += frame.samples
            if self._waiting_samples < _BATCH_SAMPLES:
                return ()
        self._waiting_samples = 0
        return self._ready()

    def _ready(self) -> Iterator[memoryview]:
        while True:
            try:
                ready = self._sink.pull()
            except (BlockingIOError, EOFError):
                return
            assert isinstance(ready, AudioFrame)
            yield memoryview(ready.planes[0])[: self._sample_bytes * ready.samples]

    def _link(self, lanes: Sequence[int | None], resample: str) -> None:
        """Source, lanes side by side, and sink."""
        if len(lanes) == 1:
            self._lane(self._source, 0, lanes[0], resample).link_to(self._sink)
            return
        split = self._graph.add("asplit", str(len(lanes)))
        merge = self._graph.add("amerge", f"inputs={len(lanes)}")
        self._source.link_to(split)
        for number, channel in enumerate(lanes):
            self._lane(split, number, channel, resample).link_to(merge, 0, number)
        merge.link_to(self._sink)

    def _lane(
        self, source: FilterContext, output: int, channel: int | None, resample: str
    ) -> FilterContext:
        """What makes one lane of what comes from an output of `source`; its last filter."""
        steps = [("aresample", resample)]
        if channel is not None:
            steps.insert(0, ("channelmap", as_text(pick_options(channel))))
        elif counts_alike(self._layout.name):
            steps[:0] = [(name, as_text(options)) for name, options in ALIKE]
        for name, options in steps:
            step = self._graph.add(name, options)
            source.link_to(step, output)
            source, output = step, 0
        return source
