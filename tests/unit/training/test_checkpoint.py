"""Checkpoints: whole or refused, and nobody else's folder is overwritten."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgeml.errors import DataError, InputError
from edgeml.training.backbones import BACKBONES, build
from edgeml.training.checkpoint import (
    Checkpoint,
    check_checkpoint_place,
    read_checkpoint,
    write_checkpoint,
)
from edgeml.training.engine import TorchEngine
from edgeml.training.image_history import Normalisation
from tests.small import INPUT, OUTPUT, TASK

CHECKPOINT = Checkpoint(
    task="image-classification",
    model="efficientnet-lite0",
    labels=("Größe", "b"),
    preprocessing={"kind": "image"},
    data={"data": "somewhere", "fingerprint": "f"},
    split={
        "train": np.array([4, 1, 7]),
        "validation": np.array([2]),
        "test": np.array([0, 3], dtype=np.int64),
    },
    seen=np.array([5, 9], dtype=np.uint64),
    training={"accuracy": 0.5},
    provenance={"seed": 3},
)


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    return build(BACKBONES["efficientnet-lite0"], num_classes=2, weights="random", seed=1)


@pytest.fixture(scope="module")
def written(network: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("checkpoints") / "one"
    write_checkpoint(place, CHECKPOINT, network)
    return place


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "copy"))


def test_what_is_written_is_read(written: Path, network: torch.nn.Module) -> None:
    read, rebuilt = read_checkpoint(written)
    for name in ("task", "model", "labels", "preprocessing", "data", "training", "provenance"):
        assert getattr(read, name) == getattr(CHECKPOINT, name), name
    for part, indices in CHECKPOINT.split.items():
        np.testing.assert_array_equal(read.split[part], indices)
        assert read.split[part].dtype == np.int64
    state = network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in rebuilt.state_dict().items())
    assert not rebuilt.training


def test_no_pickle_is_in_it(written: Path) -> None:
    assert {path.name for path in written.iterdir()} == {
        "checkpoint.json",
        "model.safetensors",
        "split.npz",
    }
    with np.load(written / "split.npz", allow_pickle=False) as archive:
        assert set(archive.files) == {"train", "validation", "test", "seen"}


def _cut(name: str) -> Callable[[Path], object]:
    return lambda place: (place / name).write_bytes((place / name).read_bytes()[:-40])


def _flip(name: str, near: bytes) -> Callable[[Path], object]:
    def change(place: Path) -> None:
        data = bytearray((place / name).read_bytes())
        data[data.index(near)] ^= 0xFF
        (place / name).write_bytes(data)

    return change


def _flip_last_bit(place: Path) -> None:
    """Change one weight a little: every library still loads the file."""
    data = bytearray((place / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (place / "model.safetensors").write_bytes(data)


def _json(**changes: Any) -> Callable[[Path], object]:
    def change(place: Path) -> None:
        value = json.loads((place / "checkpoint.json").read_text())
        (place / "checkpoint.json").write_text(json.dumps({**value, **changes}))

    return change


def _without(key: str) -> Callable[[Path], object]:
    def change(place: Path) -> None:
        value = json.loads((place / "checkpoint.json").read_text())
        del value[key]
        (place / "checkpoint.json").write_text(json.dumps(value))

    return change


@dataclass(frozen=True, kw_only=True)
class DamageCase:
    """One thing done to a checkpoint's folder."""

    id: str
    damage: Callable[[Path], object]


@pytest.mark.parametrize(
    "case",
    [
        DamageCase(id="weights-cut", damage=_cut("model.safetensors")),
        DamageCase(id="weights-garbled", damage=_flip("model.safetensors", b"blocks")),
        DamageCase(id="weights-last-bit", damage=_flip_last_bit),
        DamageCase(id="json-no-files", damage=_without("files")),
        DamageCase(
            id="weights-empty", damage=lambda place: (place / "model.safetensors").write_bytes(b"")
        ),
        DamageCase(id="weights-gone", damage=lambda place: (place / "model.safetensors").unlink()),
        DamageCase(id="split-cut", damage=_cut("split.npz")),
        DamageCase(id="split-empty", damage=lambda place: (place / "split.npz").write_bytes(b"")),
        DamageCase(id="split-garbled", damage=_flip("split.npz", b"NUMPY")),
        DamageCase(id="split-gone", damage=lambda place: (place / "split.npz").unlink()),
        DamageCase(
            id="split-pickled",
            damage=lambda place: np.savez(
                place / "split.npz", train=np.array([{}], dtype=object), allow_pickle=True
            ),
        ),
        DamageCase(
            id="split-misses-a-part",
            damage=lambda place: np.savez(place / "split.npz", train=np.arange(3)),
        ),
        DamageCase(
            id="json-text", damage=lambda place: (place / "checkpoint.json").write_text("{")
        ),
        DamageCase(
            id="json-list", damage=lambda place: (place / "checkpoint.json").write_text("[]")
        ),
        DamageCase(
            id="json-bytes", damage=lambda place: (place / "checkpoint.json").write_bytes(b"\xff{}")
        ),
        DamageCase(id="json-later-schema", damage=_json(schema_version=2)),
        DamageCase(id="json-no-labels", damage=_without("labels")),
        DamageCase(id="json-no-schema", damage=_without("schema_version")),
        DamageCase(id="other-number-of-classes", damage=_json(labels=["a", "b", "c"])),
        DamageCase(id="labels-are-a-number", damage=_json(labels=3)),
    ],
    ids=lambda case: case.id,
)
def test_damage_is_told_in_one_line(copy: Path, case: DamageCase) -> None:
    case.damage(copy)
    with pytest.raises(DataError, match=r"the checkpoint is damaged .*train it again") as caught:
        read_checkpoint(copy)
    assert caught.value.source == str(copy)
    assert "\n" not in str(caught.value)


def test_an_unknown_model_is_named(copy: Path) -> None:
    _json(model="resnet-9")(copy)
    with pytest.raises(InputError, match="resnet-9"):
        read_checkpoint(copy)


def test_a_folder_without_one_is_no_checkpoint(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError, match=r"it has no checkpoint\.json"):
            read_checkpoint(place)


def test_an_old_checkpoint_is_replaced_whole(copy: Path, network: torch.nn.Module) -> None:
    (copy / "stale.txt").write_text("of the old one")
    write_checkpoint(copy, CHECKPOINT, network)
    assert not (copy / "stale.txt").exists()
    assert read_checkpoint(copy)[0].labels == CHECKPOINT.labels


def test_somebody_elses_folder_is_not_overwritten(tmp_path: Path, network: torch.nn.Module) -> None:
    (tmp_path / "thesis.txt").write_text("irreplaceable")
    for call in (
        lambda: check_checkpoint_place(tmp_path),
        lambda: write_checkpoint(tmp_path, CHECKPOINT, network),
        lambda: check_checkpoint_place(tmp_path / "thesis.txt"),
    ):
        with pytest.raises(InputError, match="exists and is not a checkpoint"):
            call()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_new_place_and_an_empty_folder_are_fine(tmp_path: Path) -> None:
    check_checkpoint_place(tmp_path / "new")
    check_checkpoint_place(tmp_path)


def test_the_torch_engine_answers_and_takes_any_layout(rng: np.random.Generator) -> None:
    network = build(BACKBONES["efficientnet-lite0"], num_classes=4, weights="random", seed=1)
    threads = torch.get_num_threads()
    normalisation = Normalisation(mean=(127.0,) * 3, std=(128.0,) * 3)
    engine = TorchEngine(network.train(), normalisation, TASK.signature, num_threads=threads)
    images = rng.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    expected = engine.run({INPUT: images})[OUTPUT]
    np.testing.assert_allclose(expected.sum(axis=1), 1, rtol=1e-5)
    backwards = images[::-1, :, ::-1].copy()[::-1, :, ::-1]
    backwards.flags.writeable = False
    # Warnings are errors here, and torch warns of arrays that it may not write to.
    np.testing.assert_array_equal(engine.run({INPUT: backwards})[OUTPUT], expected)
    assert engine.served_by == "torch/cpu/fp32"
