"""From a model's directory to a network on its device, without a second copy of the weights."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import structlog
import torch
from torch import Tensor

from worker.model import manifest
from worker.model.checkpoint import read_checkpoint, read_copy, write_copy
from worker.model.config import ModelConfig, ModelError
from worker.model.manifest import CHECKPOINT_FILE, UNTRAINED_FILE, copy_path
from worker.model.model import Classifier, Model
from worker.model.network import Network

log = structlog.get_logger(__name__)

OUTPUT_WEIGHT = "proj.weight"
OUTPUT_BIAS = "proj.bias"
ENCODER = "d2v_model.modality_encoders.AUDIO"

# Left over from training; inference never sees them.
TRAINING_ONLY = (
    f"{ENCODER}.decoder.",
    "d2v_model._ema",
    "d2v_model.ema.",
    "d2v_model.recon_proj.",
    "d2v_model.shared_decoder.",
)

MAX_NAMES_LISTED = 8


class Expected(NamedTuple):
    """A tensor of the checkpoint, and the parameter of the network that it fills.

    A front end convolution, (channels, channels_in, kernel), fills a matrix; see FrontEndConv.
    """

    tensor: str
    shape: tuple[int, ...]
    parameter: str
    to_matrix: bool = False


def expected_tensors(config: ModelConfig) -> Iterator[Expected]:
    """Every tensor of the network, in checkpoint names; the output layer is not among them."""
    dim, mlp = config.embed_dim, config.mlp_dim

    def pair(tensor: str, parameter: str, *shape: int) -> Iterator[Expected]:
        yield Expected(f"{tensor}.weight", shape, f"{parameter}.weight")
        yield Expected(f"{tensor}.bias", shape[:1], f"{parameter}.bias")

    channels = 1
    for i, conv in enumerate(config.front_end):
        source, name = f"{ENCODER}.local_encoder.conv_layers.{i}", f"front_end.{i}"
        shape = (conv.channels, channels, conv.kernel)
        yield Expected(f"{source}.0.weight", shape, f"{name}.weight", to_matrix=True)
        yield from pair(f"{source}.2.1", f"{name}.norm", conv.channels)
        channels = conv.channels
    yield from pair(f"{ENCODER}.project_features.1", "project_norm", channels)
    yield from pair(f"{ENCODER}.project_features.2", "project", dim, channels)
    for i in range(config.positional_depth):
        source = f"{ENCODER}.relative_positional_encoder.{i + 1}.0"
        grouped = dim // config.positional_groups
        yield from pair(source, f"positional.{i}.conv", dim, grouped, config.positional_kernel)
    yield Expected(f"{ENCODER}.extra_tokens", (1, config.num_extra_tokens, dim), "extra_tokens")
    scales = (config.alibi_layers, 1, config.alibi_heads, 1, 1)
    yield Expected(f"{ENCODER}.alibi_scale", scales, "alibi_scale")
    yield from pair(f"{ENCODER}.context_encoder.norm", "norm", dim)
    for i in range(config.num_blocks):
        source = f"{ENCODER}.context_encoder.blocks.{i}"
        if i >= config.prenet_depth:
            source = f"d2v_model.blocks.{i - config.prenet_depth}"
        name = f"blocks.{i}"
        yield from pair(f"{source}.attn.qkv", f"{name}.attn.qkv", 3 * dim, dim)
        yield from pair(f"{source}.attn.proj", f"{name}.attn.proj", dim, dim)
        yield from pair(f"{source}.norm1", f"{name}.norm1", dim)
        yield from pair(f"{source}.mlp.fc1", f"{name}.fc1", mlp, dim)
        yield from pair(f"{source}.mlp.fc2", f"{name}.fc2", dim, mlp)
        yield from pair(f"{source}.norm2", f"{name}.norm2", dim)


def checkpoint_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that a checkpoint must hold."""
    shapes = {expected.tensor: expected.shape for expected in expected_tensors(config)}
    shapes[OUTPUT_WEIGHT] = (len(config.tokens), config.embed_dim)
    shapes[OUTPUT_BIAS] = (len(config.tokens),)
    return shapes


def load(
    directory: Path, *, device: torch.device, dtype: torch.dtype, name: str = "", revision: str = ""
) -> Model:
    """Load a ModelScope directory: `config.yaml`, `tokens.txt`, `model.pt`.

    Raises ModelError, ModelDamaged.

    The weights are copied tensor by tensor from the mapped file to the device, in `dtype`.
    """
    config = ModelConfig.from_directory(directory)
    tensors = _needed_tensors(directory, config)
    network, classifier = assemble(config, tensors.__getitem__, device=device, dtype=dtype)
    return Model(
        name=name or directory.name,
        revision=revision,
        untrained=(directory / UNTRAINED_FILE).exists(),
        config=config,
        network=network,
        classifier=classifier,
        device=device,
        dtype=dtype,
    )


def prepare(directory: Path) -> None:
    """Write the copy that loads faster, for loads that may not write. Raises ModelError."""
    _needed_tensors(directory, ModelConfig.from_directory(directory))


def assemble(
    config: ModelConfig,
    read: Callable[[str], Tensor],
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[Network, Classifier]:
    """Build a network from tensors by checkpoint name, each read once and then let go."""
    with torch.device("meta"):  # no memory before the weights themselves
        network = Network(config)
    state = {}
    for expected in expected_tensors(config):
        tensor = read(expected.tensor)
        if expected.to_matrix:
            tensor = tensor.transpose(1, 2).flatten(1)  # (channels, kernel × channels_in)
        if expected.parameter == "extra_tokens":
            tensor = tensor[0]  # (extra_tokens, dim)
        # The scale multiplies distances up to thousands of slots: it stays exact.
        wanted = torch.float32 if expected.parameter == "alibi_scale" else dtype
        state[expected.parameter] = tensor.to(device, wanted, copy=True)
    network.load_state_dict(state, strict=True, assign=True)
    rows = list(config.label_rows)
    classifier = Classifier(
        weight=read(OUTPUT_WEIGHT)[rows].double().numpy(),
        bias=read(OUTPUT_BIAS)[rows].double().numpy(),
    )
    return network.eval().requires_grad_(False), classifier


def _needed_tensors(directory: Path, config: ModelConfig) -> dict[str, Tensor]:
    """The tensors of the checkpoint's copy, which is made first if there is none to be trusted."""
    source = directory / CHECKPOINT_FILE
    copy = None
    if manifest.vouches_for_copy(directory, copy_path(source)):
        copy = read_copy(source)
    if copy is None:
        manifest.verify_original(directory, CHECKPOINT_FILE)
        tensors = _checked(source, config, read_checkpoint(source))
        if write_copy(source, tensors):
            manifest.record_copy(directory, copy_path(source))
            # From the copy even now: what was read of a file in the old format is let go. Only
            # from one that was just written: what else is there may be what was refused.
            copy = read_copy(source)
        copy = copy or tensors
    return _checked(source, config, copy)


def _checked(source: Path, config: ModelConfig, found: Mapping[str, object]) -> dict[str, Tensor]:
    """The needed tensors among what was found; ModelError lists what is wrong, all at once."""
    shapes = checkpoint_shapes(config)
    tensors = {k: v for k, v in found.items() if k in shapes and isinstance(v, Tensor)}
    missing = [name for name in shapes if name not in tensors]
    unexpected = [k for k in found if k not in shapes and not k.startswith(TRAINING_ONLY)]
    misshapen = [
        f"{name} is {tuple(tensor.shape)} of {tensor.dtype}, not {shapes[name]}"
        for name, tensor in tensors.items()
        if tuple(tensor.shape) != shapes[name] or not tensor.is_floating_point()
    ]
    faults = [
        f"{len(names)} {kind}: {', '.join(names[:MAX_NAMES_LISTED])}"
        + (", …" if len(names) > MAX_NAMES_LISTED else "")
        for kind, names in [
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", misshapen),
        ]
        if names
    ]
    if faults:
        raise ModelError(
            f"{source} does not hold the model that config.yaml and tokens.txt beside it describe: "
            + "; ".join(faults)
        )
    return tensors
