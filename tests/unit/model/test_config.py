"""Reading the sizes and labels of a model, and refusing what is not supported."""

from pathlib import Path

import pytest

from tests.unit.model.directories import LARGE, write_directory
from tests.unit.model.parity import DATA
from worker.model.config import ConvLayer, ModelConfig, ModelError, UnsupportedModel
from worker.model.synthetic import architecture

SPEC = "audio__feature_encoder_spec"


def test_the_sizes_of_a_checkpoint_are_read() -> None:
    """Each number comes from the field that the reference takes it from."""
    config = ModelConfig.from_directory(DATA / "tiny-odd")
    assert (config.embed_dim, config.num_heads, config.mlp_dim) == (96, 6, 384)
    assert (config.prenet_depth, config.depth, config.num_blocks) == (1, 3, 4)
    assert config.norm_eps == 1e-5  # `1e-05` is a string to YAML
    assert config.front_end == (
        ConvLayer(48, 10, 5),
        *[ConvLayer(48, 3, 2)] * 4,
        *[ConvLayer(48, 2, 2)] * 2,
    )
    assert (config.positional_kernel, config.positional_depth) == (20, 3)
    assert config.gap == 10


def test_the_published_sizes_are_those_of_random_large(tmp_path: Path) -> None:
    """`random:large` costs what the real model costs."""
    directory = write_directory(tmp_path, **LARGE)
    assert ModelConfig.from_directory(directory) == architecture("large")


def test_the_gap_is_as_wide_as_the_positional_convolution_sees(tmp_path: Path) -> None:
    """With fewer extra tokens than half a kernel, the gap is wider than they are."""
    directory = write_directory(tmp_path, audio__num_extra_tokens=3, audio__conv_pos_width=105)
    assert ModelConfig.from_directory(directory).gap == 10


def test_labels_are_the_english_part() -> None:
    """`生气/angry` is angry, `<unk>` is unknown, in the order of the file."""
    assert ModelConfig.from_directory(DATA / "tiny").labels == (
        "angry",
        "disgusted",
        "fearful",
        "happy",
        "neutral",
        "other",
        "sad",
        "surprised",
        "unknown",
    )


def test_unused_tokens_keep_their_row_and_have_no_label(tmp_path: Path) -> None:
    """Rows of `unuse…` tokens are counted, so that the rows after them keep their place."""
    directory = write_directory(tmp_path)
    (directory / "tokens.txt").write_text("开心/happy\nunuse_0\n难过/sad\n", encoding="utf-8")
    config = ModelConfig.from_directory(directory)
    assert config.labels == ("happy", "sad")
    assert config.label_rows == (0, 2)
    assert len(config.tokens) == 3


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model__layer_norm_first", True),
        ("model__norm_affine", False),
        ("model__normalize", False),
        ("model__extractor_mode", "default"),
        ("audio__extractor_mode", "default"),
        ("audio__conv_pos_pre_ln", True),
        ("audio__learned_alibi", True),
        ("audio__use_alibi_encoder", False),
        ("audio__alibi_max_pos", 1024),
        ("audio__num_alibi_heads", 2),
        (SPEC, "[(32, 10, 5)] + [(32, 3, 2)] * 4"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    tmp_path: Path, field: str, value: object
) -> None:
    """The message names the file and the field: never a wrong answer instead."""
    directory = write_directory(tmp_path, **{field: value})
    with pytest.raises(UnsupportedModel) as caught:
        ModelConfig.from_directory(directory)
    assert str(directory / "config.yaml") in str(caught.value)
    assert field.partition("__")[2] in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model__embed_dim", "64"),
        ("model__embed_dim", None),
        ("model__num_heads", 5),
        ("model__depth", 0),
        ("model__norm_eps", "small"),
        ("model__norm_eps", 0),
        ("model__mlp_ratio", True),
        ("audio__conv_pos_groups", 7),
        ("audio__learned_alibi_scale_per_layer", "yes"),
        (SPEC, "__import__('os').getcwd()"),
        (SPEC, "[(32, 10, 5)] * 10**9"),
        (SPEC, "[(32, 10, 5)] * 999999999"),
        (SPEC, "[(32, 10)]"),
        (SPEC, "[(32, 10, -5)]"),
        (SPEC, "[(32, 10"),
        (SPEC, "(" * 2_000),
        (SPEC, [[32, 10, 5]]),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(tmp_path: Path, field: str, value: object) -> None:
    """A wrong type, a missing size, an expression that is more than lists: all name the field."""
    directory = write_directory(tmp_path, **{field: value})
    with pytest.raises(ModelError) as caught:
        ModelConfig.from_directory(directory)
    assert str(directory / "config.yaml") in str(caught.value)
    assert field.partition("__")[2] in str(caught.value)


@pytest.mark.parametrize("text", [None, "- a\n- b\n", "{", "model_conf: 3\n"])
def test_a_config_that_is_none_is_refused(tmp_path: Path, text: str | None) -> None:
    """Absent, a list, not YAML, or without its sections."""
    directory = write_directory(tmp_path)
    path = directory / "config.yaml"
    path.unlink() if text is None else path.write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=str(path)):
        ModelConfig.from_directory(directory)


@pytest.mark.parametrize("tokens", [None, "", "happy\n快乐/happy\n"])
def test_tokens_must_be_there_and_differ(tmp_path: Path, tokens: str | None) -> None:
    """Two rows of the same name could not be told apart in a result."""
    directory = write_directory(tmp_path)
    path = directory / "tokens.txt"
    path.unlink() if tokens is None else path.write_text(tokens, encoding="utf-8")
    with pytest.raises(ModelError, match=str(path)):
        ModelConfig.from_directory(directory)
