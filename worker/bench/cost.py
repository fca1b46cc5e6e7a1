"""What the network costs by its sizes alone: operations and bytes for each slot of a tape."""

from dataclasses import dataclass

from worker.clip import FRAME_STRIDE
from worker.model.config import ModelConfig


@dataclass(frozen=True, slots=True)
class Product:
    """A kind of matrix product of the network, as one slot needs it.

    For each of `groups`, `rows` rows of `inner` values become rows of `outer / groups`; `count`
    such products there are. `reads` is the number of values that really come in: the rows of a
    convolution overlap.
    """

    name: str
    rows: int
    inner: int
    outer: int
    reads: int
    groups: int = 1
    count: int = 1

    @property
    def flop(self) -> int:
        """Operations of all `count` products; a multiplication and an addition are two."""
        return 2 * self.rows * self.inner * self.outer * self.count

    @property
    def values(self) -> int:
        """Values read and written by all `count` products, each once."""
        return (self.reads + self.rows * self.outer) * self.count

    @property
    def weights(self) -> int:
        """Parameters of all `count` products."""
        return self.inner * self.outer * self.count


def products(config: ModelConfig) -> list[Product]:
    """Every matrix product but attention's, in the order of the network."""
    found = []
    rows, channels = FRAME_STRIDE, 1
    for number, conv in enumerate(config.front_end, start=1):
        reads = rows * channels
        rows //= conv.stride
        inner = conv.kernel * channels
        found.append(Product(f"front end {number}", rows, inner, conv.channels, reads))
        channels = conv.channels
    dim, mlp = config.embed_dim, config.mlp_dim
    found.append(Product("project", 1, channels, dim, channels))
    found.append(
        Product(
            "positional",
            1,
            config.positional_kernel * dim // config.positional_groups,
            dim,
            dim,
            groups=config.positional_groups,
            count=config.positional_depth,
        )
    )
    blocks = config.num_blocks
    found += [
        Product("qkv", 1, dim, 3 * dim, dim, count=blocks),
        Product("attention out", 1, dim, dim, dim, count=blocks),
        Product("mlp in", 1, dim, mlp, dim, count=blocks),
        Product("mlp out", 1, mlp, dim, mlp, count=blocks),
    ]
    return found


def slot_flop(config: ModelConfig) -> int:
    """Operations for one slot, attention left out: that grows with the clip, by 3 % at 5 s."""
    return sum(product.flop for product in products(config))


def slot_bytes(config: ModelConfig, itemsize: int) -> int:
    """Bytes for one slot where each product reads and writes its rows once, all else fused in."""
    attention = config.num_blocks * 4 * config.embed_dim  # reads q, k and v; writes what is mixed
    return itemsize * (sum(product.values for product in products(config)) + attention)


def weight_bytes(config: ModelConfig, itemsize: int) -> int:
    """Bytes of the weights that every tape reads once."""
    return itemsize * sum(product.weights for product in products(config))
