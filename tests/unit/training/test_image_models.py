"""Backbones by name: a hub's folder with a new head, a module of one's own, and what is refused."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from edgeml.core import answering
from edgeml.errors import DataError, InputError
from edgeml.training import hub
from edgeml.training.backbones import BACKBONES
from edgeml.training.checkpoint import read_checkpoint, write_checkpoint
from edgeml.training.image_models import (
    build_image_model,
    call_factory,
    find_image_model,
    rebuild_image_model,
)
from edgeml.training.image_optimizing import head_of
from tests.local_hub import serving, silent
from tests.unit.training.test_checkpoint import CHECKPOINT
from tests.unit.workflows.test_hugging_face_image_source import NETWORKS, SIDE, _model

FACTORY = """
from torch import nn

def make(num_classes):
    body = [nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*body, nn.Linear(4, num_classes)), {"image_size": 20, "mean": (0.5,) * 3}

def broken(num_classes):
    raise RuntimeError("no weights here")

def odd(num_classes):
    return nn.Linear(1, 1), {"size": 3}
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    return name


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_hubs_classifier_gets_a_new_head_and_keeps_the_rest(kind: str, tmp_path: Path) -> None:
    folder = _model(tmp_path / "theirs", kind)
    found = find_image_model(str(folder), weights="pretrained")
    # As many classes as it had: its old head must not come along.
    network = build_image_model(found, num_classes=3, seed=5)
    state = network.state_dict()
    theirs = load_file(folder / "model.safetensors")
    head = head_of(network, 3)
    assert head
    for name, value in theirs.items():
        if f"model.{name}" not in head:
            assert torch.equal(state[f"model.{name}"], value), name
        elif value.ndim > 1:  # biases are zero in both
            assert not torch.equal(state[f"model.{name}"], value), name
    again = build_image_model(found, num_classes=3, seed=5).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in state.items())
    checkpoint = {**vars(CHECKPOINT), "model": found.name, "architecture": found.architecture}
    checkpoint["labels"] = ("a", "b", "c")
    write_checkpoint(tmp_path / "c", type(CHECKPOINT)(**checkpoint), network)
    assert str(tmp_path) not in (tmp_path / "c" / "checkpoint.json").read_text()
    read, rebuilt = read_checkpoint(tmp_path / "c")
    pixels = torch.rand(2, 3, SIDE, SIDE)
    with torch.inference_mode():
        torch.testing.assert_close(rebuilt(pixels), network.eval()(pixels))
    assert read.architecture["kind"] == "hub"


def test_a_backbone_without_all_its_tensors_is_refused(tmp_path: Path) -> None:
    folder = _model(tmp_path / "theirs", "resnet")
    tensors = load_file(folder / "model.safetensors")
    gone = next(name for name in tensors if "encoder" in name and name.endswith("weight"))
    del tensors[gone]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    found = find_image_model(str(folder), weights="pretrained")
    with pytest.raises(InputError, match="1 tensors of the backbone are missing"):
        build_image_model(found, num_classes=2, seed=0)


def test_random_weights_need_no_hub() -> None:
    found = find_image_model("resnet-18", weights="random")
    network = build_image_model(found, num_classes=10, seed=0)
    count = sum(value.numel() for value in network.parameters())
    assert 11_150_000 < count < 11_250_000
    rebuilt = rebuild_image_model("resnet-18", found.architecture, num_classes=10)
    assert rebuilt.state_dict().keys() == network.state_dict().keys()
    assert found.weights == "random"


@pytest.mark.parametrize("name", ["efficientnet-lite1", "efficientnet-lite2"])
def test_every_packaged_backbone_brings_its_weights(name: str) -> None:
    found = find_image_model(name, weights="pretrained")
    assert found.sha256 == BACKBONES[name].sha256
    network = build_image_model(found, num_classes=2, seed=0).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 2)


def test_a_module_of_ones_own(own: str) -> None:
    found = find_image_model(f"{own}:make", weights="pretrained")
    assert (found.where, found.architecture["factory"]) == ("factory", f"{own}:make")
    made = call_factory(f"{own}:make", num_classes=7, seed=0)
    assert made.module(torch.zeros(2, 3, 20, 20)).shape == (2, 7)
    assert (made.image_size, made.mean) == (20, (127.5,) * 3)
    assert made.std[0] == pytest.approx(0.229 * 255)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("broken", "raised RuntimeError: no weights here"),
        ("odd", "size has no meaning here"),
        ("none", "has no 'none'"),
        ("FACTORY_LIST", "has no"),
    ],
)
def test_a_factory_at_fault_is_told_in_one_line(own: str, function: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        call_factory(f"{own}:{function}", num_classes=2, seed=0)


def test_a_factory_decides_its_weights(own: str) -> None:
    with pytest.raises(InputError, match="decides itself"):
        find_image_model(f"{own}:make", weights="random")


@pytest.mark.timeout(30)
def test_a_hub_that_does_not_answer_costs_five_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hub.ANSWER_TIMEOUT_S + answering._GRACE_S <= 4
    with silent(monkeypatch, tmp_path):
        began = time.monotonic()
        with pytest.raises(DataError, match=r"cannot be reached.*'efficientnet-lite0'"):
            find_image_model("resnet-18", weights="pretrained")
        assert time.monotonic() - began < 10  # a second's margin fails on a busy machine


def test_what_was_fetched_is_found_again_without_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _model(tmp_path / "theirs", "resnet")
    with serving(monkeypatch, tmp_path / "cache") as server:
        server.branches["main"] = {file.name: file.read_bytes() for file in folder.iterdir()}
        found = find_image_model("owner/cats", weights="pretrained")
        server.down = True
        again = find_image_model("owner/cats", weights="pretrained")
    assert (again.where, again.sha256, again.revision) == ("hub", found.sha256, found.revision)
    assert found.revision == server.commit("main")


def test_a_text_model_is_no_image_classifier(tmp_path: Path) -> None:
    config = transformers.BertConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
        vocab_size=20,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(tmp_path / "bert")
    found = find_image_model(str(tmp_path / "bert"), weights="pretrained")
    with pytest.raises(InputError, match="cannot be fine-tuned as an image classifier"):
        build_image_model(found, num_classes=2, seed=0)
