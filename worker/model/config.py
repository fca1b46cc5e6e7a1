"""The sizes and labels of a model, from `config.yaml` and `tokens.txt` in its directory."""

import ast
import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

import yaml

from worker.clip import FRAME_SAMPLES, FRAME_STRIDE

CONFIG_FILE = "config.yaml"
TOKENS_FILE = "tokens.txt"

MAX_SPEC_CHARACTERS = 1_000
MAX_SPEC_ITEMS = 64  # as a bound on `[…] * n`; the published models have 7


class ModelError(Exception):
    """A model that cannot be loaded; the message names the file and what is wrong with it."""


class UnsupportedModel(ModelError):
    """A model of an architecture that this code does not run; the message names the field."""


@dataclass(frozen=True, slots=True)
class ConvLayer:
    """One convolution of the front end."""

    channels: int
    kernel: int
    stride: int


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The architecture of an emotion2vec+ model, and what its outputs mean.

    `tokens` has one entry for each row of the output layer, as `tokens.txt` has it.
    `alibi_layers` and `alibi_heads` are 1 where all layers or heads share one learned scale.
    """

    embed_dim: int
    num_heads: int
    mlp_dim: int
    prenet_depth: int
    depth: int
    num_extra_tokens: int
    norm_eps: float
    front_end: tuple[ConvLayer, ...]
    positional_kernel: int
    positional_depth: int
    positional_groups: int
    alibi_layers: int
    alibi_heads: int
    tokens: tuple[str, ...]

    @property
    def num_blocks(self) -> int:
        """Transformer blocks, those of the prenet counted in."""
        return self.prenet_depth + self.depth

    @property
    def gap(self) -> int:
        """Empty slots that a clip needs before it on a tape, to be out of its neighbour's sight."""
        return max(self.num_extra_tokens, self.positional_kernel // 2)

    @property
    def label_rows(self) -> tuple[int, ...]:
        """The rows of the output layer that stand for a label; the others are masked out."""
        return tuple(i for i, token in enumerate(self.tokens) if not token.startswith("unuse"))

    @property
    def labels(self) -> tuple[str, ...]:
        """The English label of each row in `label_rows`."""
        return _labels(self.tokens)

    @classmethod
    def from_directory(cls, directory: Path) -> Self:
        """Read a model's directory. Raises ModelError, or UnsupportedModel by name of the field."""
        path = directory / CONFIG_FILE
        root = _Section(path, "", _read_yaml(path))
        root.only("model", "Emotion2vec")
        model = root.section("model_conf")
        model.only("layer_norm_first", False)
        model.only("norm_affine", True)
        model.only("normalize", True)
        model.only("extractor_mode", "layer_norm")
        audio = model.section("modalities").section("audio")
        audio.only("extractor_mode", "layer_norm")
        audio.only("conv_pos_pre_ln", False)
        audio.only("use_alibi_encoder", True)
        audio.only("learned_alibi", False)
        audio.only("alibi_max_pos", None)

        embed_dim = model.whole("embed_dim")
        num_heads = model.whole("num_heads")
        model.check(embed_dim % num_heads == 0, "num_heads", "must divide embed_dim")
        audio.only("num_alibi_heads", num_heads)
        groups = audio.whole("conv_pos_groups")
        audio.check(embed_dim % groups == 0, "conv_pos_groups", "must divide embed_dim")
        positional_depth = audio.whole("conv_pos_depth")
        prenet_depth = audio.whole("prenet_depth", at_least=0)
        depth = model.whole("depth")
        per_layer = audio.flag("learned_alibi_scale_per_layer", default=False)
        per_head = audio.flag("learned_alibi_scale_per_head", default=False)
        return cls(
            embed_dim=embed_dim,
            num_heads=num_heads,
            mlp_dim=int(embed_dim * model.number("mlp_ratio")),
            prenet_depth=prenet_depth,
            depth=depth,
            num_extra_tokens=audio.whole("num_extra_tokens", at_least=0),
            norm_eps=model.number("norm_eps"),
            front_end=_front_end(audio),
            positional_kernel=max(3, audio.whole("conv_pos_width") // positional_depth),
            positional_depth=positional_depth,
            positional_groups=groups,
            alibi_layers=prenet_depth + depth if per_layer else 1,
            alibi_heads=num_heads if per_head else 1,
            tokens=_read_tokens(directory / TOKENS_FILE),
        )


class _Section:
    """One mapping of a YAML file, read field by field, with errors that name file and field."""

    def __init__(self, path: Path, prefix: str, value: object) -> None:
        if not isinstance(value, Mapping):
            raise ModelError(f"{path}: {prefix or 'the file'} must be a mapping of fields")
        self._path = path
        self._prefix = prefix
        self._fields: Mapping[object, object] = value

    def name(self, field: str) -> str:
        """The file and the field, as errors name them."""
        return f"{self._path}: {self._prefix}{field}"

    def check(self, condition: bool, field: str, demand: str) -> None:
        """Refuse the file where the condition does not hold."""
        if not condition:
            raise ModelError(f"{self.name(field)}={self._fields.get(field)!r} {demand}")

    def section(self, field: str) -> "_Section":
        """The mapping under `field`."""
        return _Section(self._path, f"{self._prefix}{field}.", self._fields.get(field))

    def only(self, field: str, supported: object) -> None:
        """Refuse any value but one; a field that is absent has that value."""
        value = self._fields.get(field, supported)
        if value != supported:
            raise UnsupportedModel(
                f"{self.name(field)}={value!r} is not supported; only {supported!r} is"
            )

    def text(self, field: str) -> str:
        """A string."""
        value = self._fields.get(field)
        if not isinstance(value, str):
            raise ModelError(f"{self.name(field)}={value!r} must be a string")
        return value

    def flag(self, field: str, *, default: bool) -> bool:
        """A boolean."""
        value = self._fields.get(field, default)
        if not isinstance(value, bool):
            raise ModelError(f"{self.name(field)}={value!r} must be true or false")
        return value

    def whole(self, field: str, at_least: int = 1) -> int:
        """A whole number, not below `at_least`."""
        value = self._fields.get(field)
        if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
            raise ModelError(
                f"{self.name(field)}={value!r} must be a whole number, at least {at_least}"
            )
        return value

    def number(self, field: str) -> float:
        """A positive, finite number; `1e-05` is a string to YAML 1.1 and is read as a number."""
        value = self._fields.get(field)
        number = math.nan
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            with contextlib.suppress(ValueError):
                number = float(value)
        if not 0 < number < math.inf:
            raise ModelError(f"{self.name(field)}={value!r} must be a number above 0")
        return number


def _front_end(audio: _Section) -> tuple[ConvLayer, ...]:
    """The convolutions of `feature_encoder_spec`; refused unless a frame is what a slot is."""
    field = "feature_encoder_spec"
    spec = audio.text(field)
    layers = []
    stride, sees = 1, 1
    try:
        for channels, kernel, step in _evaluate_spec(spec):
            layers.append(ConvLayer(channels, kernel, step))
            sees += (kernel - 1) * stride
            stride *= step
    except (SyntaxError, ValueError, TypeError) as error:
        raise ModelError(f"{audio.name(field)}={spec!r} cannot be read: {error}") from error
    if (stride, sees) != (FRAME_STRIDE, FRAME_SAMPLES):
        raise UnsupportedModel(
            f"{audio.name(field)}={spec!r}: frames of {sees} samples every {stride} are not "
            f"supported; only {FRAME_SAMPLES} every {FRAME_STRIDE} are"
        )
    return tuple(layers)


def _evaluate_spec(spec: str) -> list[tuple[int, int, int]]:
    """Evaluate `[(512, 10, 5)] + [(512, 3, 2)] * 4`: lists of triples under `+` and `*` alone."""
    if len(spec) > MAX_SPEC_CHARACTERS:
        raise ValueError(f"longer than {MAX_SPEC_CHARACTERS} characters")

    def evaluate(node: ast.expr) -> list[tuple[int, int, int]]:
        match node:
            case ast.List(elts=elements):
                return [_triple(element) for element in elements]
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return evaluate(left) + evaluate(right)
            case ast.BinOp(left=left, op=ast.Mult(), right=ast.Constant(value=int(times))):
                items = evaluate(left)
                if not 0 <= len(items) * times <= MAX_SPEC_ITEMS:
                    raise ValueError(f"more than {MAX_SPEC_ITEMS} layers")
                return items * times
        raise ValueError(f"{ast.unparse(node)} is not a list, a sum of lists or a list times n")

    return evaluate(ast.parse(spec.strip(), mode="eval").body)


def _triple(node: ast.expr) -> tuple[int, int, int]:
    """Channels, kernel and stride of one layer."""
    value = ast.literal_eval(node)
    match value:
        case (int(channels), int(kernel), int(stride)) if min(value) > 0:
            return channels, kernel, stride
    raise ValueError(f"{value!r} is not (channels, kernel, stride)")


def _read_yaml(path: Path) -> object:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error


def _read_tokens(path: Path) -> tuple[str, ...]:
    """One label a line, in the order of the rows of the output layer."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    tokens = tuple(line.strip() for line in lines if line.strip())
    labels = [_label(token) for token in tokens if not token.startswith("unuse")]
    if not labels or len(set(labels)) != len(labels):
        raise ModelError(f"{path}: the labels {labels} must be at least one, and all different")
    return tokens


@cache
def _labels(tokens: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the rows that stand for one; asked for with every clip."""
    return tuple(_label(token) for token in tokens if not token.startswith("unuse"))


def _label(token: str) -> str:
    """`生气/angry` is `angry`; `<unk>` is `unknown`."""
    return "unknown" if token == "<unk>" else token.rpartition("/")[2]
