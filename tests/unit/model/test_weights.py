"""From a directory to a model: what is checked, what is ignored, and what it costs in memory."""

import fcntl
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
import torch
from torch import Tensor

from tests.unit.model.directories import read_weights, save, write_directory
from tests.unit.model.parity import CPU, clip_of, copied, loaded, noise, segments_of
from worker.engine.engine import Engine
from worker.model import manifest
from worker.model.config import ModelError
from worker.model.weights import load

PREFIX = "d2v_model.modality_encoders.AUDIO."


def test_a_directory_becomes_a_model(tmp_path: Path) -> None:
    """With its name, revision and labels; marked untrained where a file there says so."""
    directory = copied("tiny", tmp_path)
    model = load(directory, device=CPU, dtype=torch.bfloat16, name="iic/x", revision="v1")
    assert (model.name, model.revision, model.dtype, model.device) == (
        "iic/x",
        "v1",
        torch.bfloat16,
        CPU,
    )
    assert model.untrained
    assert model.config.labels[0] == "angry"
    assert not any(parameter.is_meta for parameter in model.network.parameters())
    (directory / "UNTRAINED").unlink()
    trained = load(directory, device=CPU, dtype=torch.float32)
    assert not trained.untrained
    assert trained.name == "tiny"


def test_the_second_start_reads_the_copy(tmp_path: Path) -> None:
    """It gives the same weights, and does not open model.pt at all."""
    directory = copied("tiny", tmp_path)
    first = load(directory, device=CPU, dtype=torch.float32)
    status = (directory / "model.pt").stat()
    (directory / "model.pt").write_bytes(b"\0" * status.st_size)
    os.utime(directory / "model.pt", ns=(status.st_atime_ns, status.st_mtime_ns))
    second = load(directory, device=CPU, dtype=torch.float32)
    for name, tensor in first.network.state_dict().items():
        assert torch.equal(tensor, second.network.state_dict()[name])


def test_a_changed_checkpoint_is_read_and_copied_anew(tmp_path: Path) -> None:
    """Never the old weights under a new file's name."""
    directory = copied("tiny", tmp_path)
    load(directory, device=CPU, dtype=torch.float32)
    weights = read_weights(directory)
    weights["proj.bias"] = torch.full((9,), 7.0)
    save(directory, weights)
    for _ in range(2):
        assert set(load(directory, device=CPU, dtype=torch.float32).classifier.bias) == {7.0}


def test_loading_the_same_from_the_old_format(tmp_path: Path) -> None:
    """The format of the file changes nothing in the weights."""
    directory = copied("tiny", tmp_path)
    new = load(directory, device=CPU, dtype=torch.float32)
    save(directory, read_weights(directory), old_format=True)
    old = load(directory, device=CPU, dtype=torch.float32)
    for name, tensor in new.network.state_dict().items():
        assert torch.equal(tensor, old.network.state_dict()[name])


def drop(weights: dict[str, Tensor]) -> None:
    """Leave a tensor out."""
    del weights["d2v_model.blocks.1.attn.qkv.weight"]


def add(weights: dict[str, Tensor]) -> None:
    """Add a tensor that no field of the config asks for."""
    weights["d2v_model.blocks.9.attn.qkv.weight"] = torch.zeros(3)


def reshape(weights: dict[str, Tensor]) -> None:
    """Give an output layer of ten labels."""
    weights["proj.weight"] = torch.zeros(10, 64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop, r"1 missing: d2v_model\.blocks\.1\.attn\.qkv\.weight"),
        (add, r"1 unexpected: d2v_model\.blocks\.9\.attn\.qkv\.weight"),
        (reshape, r"1 of another shape: proj\.weight is \(10, 64\) of torch\.float32, not \(9, 64"),
    ],
)
def test_tensors_that_do_not_match_the_config_are_listed(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], None], message: str
) -> None:
    """By name, with the file, before anything is copied or loaded."""
    directory = copied("tiny", tmp_path)
    weights = read_weights(directory)
    change(weights)
    path = save(directory, weights)
    with pytest.raises(ModelError, match=message) as caught:
        load(directory, device=CPU, dtype=torch.float32)
    assert str(path) in str(caught.value)
    assert not (directory / "model.pt.safetensors").exists()


def test_all_faults_are_reported_together(tmp_path: Path) -> None:
    """And a long list is cut."""
    directory = write_directory(tmp_path, model__depth=4)
    weights = read_weights(copied("tiny", tmp_path / "other"))
    reshape(weights)
    save(directory, weights)
    with pytest.raises(ModelError) as caught:
        load(directory, device=CPU, dtype=torch.float32)
    assert "24 missing: d2v_model.blocks.2.attn.qkv.weight" in str(caught.value)
    assert ", …; 1 of another shape" in str(caught.value)


def test_what_only_training_needs_is_ignored(tmp_path: Path) -> None:
    """A decoder and an EMA neither hinder nor reach the copy."""
    directory = copied("tiny", tmp_path)
    weights: dict[str, object] = dict(read_weights(directory))
    weights[f"{PREFIX}decoder.blocks.0.0.weight"] = torch.zeros(2)
    weights["d2v_model._ema"] = {"blocks.0": torch.zeros(2)}
    save(directory, weights)
    with structlog.testing.capture_logs() as logs:
        load(directory, device=CPU, dtype=torch.float32)
        load(directory, device=CPU, dtype=torch.float32)
    assert [entry["event"] for entry in logs] == ["weights.copy_written"]


def test_masked_tokens_have_no_part_in_the_softmax(tmp_path: Path) -> None:
    """The other labels' scores are those of a softmax without the masked rows."""
    plain = loaded("tiny", tmp_path / "plain")
    directory = copied("tiny", tmp_path / "masked")
    tokens = (directory / "tokens.txt").read_text(encoding="utf-8")
    (directory / "tokens.txt").write_text(
        tokens.replace("中立/neutral", "unuse_0"), encoding="utf-8"
    )
    masked = load(directory, device=CPU, dtype=torch.float32)
    segment = segments_of(clip_of(noise(16_000)))
    (output,) = Engine(plain).run(segment)
    full = Engine(plain).pool([output]).scores
    part = Engine(masked).pool(Engine(masked).run(segment)).scores
    del full["neutral"]
    assert list(part) == list(full)
    assert list(part.values()) == pytest.approx([v / sum(full.values()) for v in full.values()])


def test_a_scale_of_its_own_for_each_layer_is_used(tmp_path: Path) -> None:
    """Equal scales give what one shared scale gives; a changed layer gives something else."""
    weights = read_weights(copied("tiny", tmp_path / "source"))
    shared = loaded("tiny", tmp_path / "shared")
    scale = weights[f"{PREFIX}alibi_scale"].repeat(4, 1, 1, 1, 1)
    directory = write_directory(tmp_path / "own", audio__learned_alibi_scale_per_layer=True)
    segments = segments_of(clip_of(noise(16_000)))
    (expected,) = Engine(shared).run(segments)
    for layer, factor in ((0, 1.0), (1, 3.0), (3, 3.0)):
        changed = scale.clone()
        changed[layer] *= factor
        save(directory, weights | {f"{PREFIX}alibi_scale": changed})
        model = load(directory, device=CPU, dtype=torch.float32)
        (output,) = Engine(model).run(segments)
        assert output.embedding is not None
        assert expected.embedding is not None
        difference = abs(output.embedding - expected.embedding).max()
        assert (difference < 1e-5) == (factor == 1.0), layer


def vouched(tmp_path: Path) -> Path:
    """A parity checkpoint with a manifest, as if it had been downloaded."""
    directory = copied("tiny", tmp_path)
    files = ["config.yaml", "tokens.txt", "model.pt"]
    manifest.write(directory, manifest.take(directory, "a/b", "v1", files))
    return directory


def embedding(directory: Path) -> list[float]:
    """What its model makes of a clip."""
    model = load(directory, device=CPU, dtype=torch.float32)
    (output,) = Engine(model, tape_slots=4096).run(segments_of(clip_of(noise(8_000))))
    assert output.embedding is not None
    return [float(each) for each in output.embedding]


def tamper(copy: Path) -> None:
    """Other weights in a file of the same size and times."""
    status, data = copy.stat(), bytearray(copy.read_bytes())
    data[-4096:] = bytes(4096)
    copy.write_bytes(data)
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_copy_that_was_tampered_with_is_not_loaded(tmp_path: Path) -> None:
    """Whatever its size and time: it is made anew, from weights that are hashed first."""
    directory = vouched(tmp_path)
    expected = embedding(directory)
    copy = directory / "model.pt.safetensors"
    tamper(copy)
    with structlog.testing.capture_logs() as logs:
        assert embedding(directory) == expected
    assert "model.copy_refused" in [entry["event"] for entry in logs]
    with structlog.testing.capture_logs() as logs:
        assert embedding(directory) == expected
    assert "model.copy_refused" not in [entry["event"] for entry in logs]


def test_no_copy_is_made_of_weights_that_were_tampered_with(tmp_path: Path) -> None:
    """Their size and time would pass at a start; what is loaded is hashed."""
    directory = vouched(tmp_path)
    tamper(directory / "model.pt")
    with pytest.raises(manifest.ModelDamaged, match=r"model\.pt is damaged"):
        embedding(directory)
    assert not (directory / "model.pt.safetensors").exists()


def test_a_copy_that_nobody_recorded_is_made_anew(tmp_path: Path) -> None:
    """By whom it was put there is not known."""
    directory = vouched(tmp_path)
    embedding(directory)
    known = manifest.read(directory)
    assert known is not None
    manifest.write(directory, replace(known, copy=None))
    with structlog.testing.capture_logs() as logs:
        embedding(directory)
    assert [entry["recorded"] for entry in logs if entry["event"] == "model.copy_refused"] == [
        False
    ]


def test_a_refused_copy_is_not_loaded_where_it_cannot_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk or a mount that is read-only now, what was verified is loaded."""
    directory = vouched(tmp_path)
    expected = embedding(directory)
    tamper(directory / "model.pt.safetensors")

    def refuse(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("worker.model.checkpoint.save_file", refuse)
    with structlog.testing.capture_logs() as logs:
        assert embedding(directory) == expected
    assert [entry["event"] for entry in logs] == ["model.copy_refused", "weights.copy_not_written"]


def test_a_refused_copy_is_not_loaded_while_another_worker_replaces_it(tmp_path: Path) -> None:
    """Of several that refuse it at once one writes; the others must not take what is there."""
    directory = vouched(tmp_path)
    expected = embedding(directory)
    tamper(directory / "model.pt.safetensors")
    part = directory / "model.pt.safetensors.part"
    part.mkdir()
    writer = os.open(part, os.O_RDONLY)
    try:
        fcntl.flock(writer, fcntl.LOCK_EX)
        assert embedding(directory) == expected
    finally:
        os.close(writer)


def test_a_copy_that_cannot_be_read_does_not_stop_a_worker(tmp_path: Path) -> None:
    """The verified weights beside it can be."""
    directory = vouched(tmp_path)
    expected = embedding(directory)
    copy = directory / "model.pt.safetensors"
    copy.unlink()
    copy.mkdir()
    with structlog.testing.capture_logs() as logs:
        assert embedding(directory) == expected
    assert logs[0]["event"] == "model.copy_refused"
