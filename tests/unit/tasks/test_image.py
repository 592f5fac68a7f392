"""The image contract: geometry, normalisation, JSON, and pillow only where a picture is decoded."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeml.errors import InputError, MissingExtraError
from edgeml.tasks.classification import ClassLabels
from edgeml.tasks.image import ImagePreprocessing, ImageTask
from tests.pictures import png, rgb_file, scene

SMALL = ImagePreprocessing(height=8, width=8)
_positive = st.floats(0.125, 255, width=32)
_three = st.tuples(_positive, _positive, _positive)
preprocessings = st.builds(
    ImagePreprocessing,
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    fit=st.sampled_from(["crop", "stretch"]),
    crop_fraction=st.floats(0.01, 1.0),
    resample=st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos"]),
    mean=_three,
    std=_three,
)


@given(preprocessings, st.integers(1, 130), st.integers(1, 130))
def test_any_picture_becomes_the_tensor(
    preprocessing: ImagePreprocessing, height: int, width: int
) -> None:
    tensor = preprocessing.prepare(scene(height, width))
    assert tensor.shape == (preprocessing.height, preprocessing.width, 3)
    assert tensor.dtype == np.uint8


@given(preprocessings, st.integers(1, 60), st.integers(1, 60), st.integers(0, 255))
def test_one_colour_stays_that_colour(
    preprocessing: ImagePreprocessing, height: int, width: int, value: int
) -> None:
    flat = np.full((height, width, 3), value, dtype=np.uint8)
    assert set(preprocessing.prepare(flat).ravel().tolist()) == {value}


@pytest.mark.parametrize("side", [14, 28, 49, 61, 112, 119, 1500])
def test_rounding_never_leaves_the_picture(side: int) -> None:
    # Widths whose quotient and product with the target differ in the last bit.
    for target in range(1, 40):
        preprocessing = ImagePreprocessing(height=7, width=target, resample="nearest")
        flat = np.broadcast_to(np.uint8(9), (side, 2 * side + 1))
        assert preprocessing.prepare(flat[:, :side]).shape == (7, target, 3)
        assert preprocessing.prepare(flat[:1]).shape == (7, target, 3)


def test_a_picture_of_the_right_size_is_left_as_it_is(rng: np.random.Generator) -> None:
    picture = rng.integers(0, 256, size=(8, 8, 3), dtype=np.uint8)
    for resample in ("nearest", "bilinear", "bicubic", "lanczos"):
        preprocessing = ImagePreprocessing(height=8, width=8, resample=resample)
        np.testing.assert_array_equal(preprocessing.prepare(picture), picture)


def test_crop_keeps_the_middle_and_stretch_keeps_all() -> None:
    picture = np.zeros((10, 30, 3), dtype=np.uint8)
    picture[:, :10, 0], picture[:, 10:20, 1], picture[:, 20:, 2] = 255, 255, 255
    crop = ImagePreprocessing(height=10, width=10, fit="crop", resample="nearest")
    np.testing.assert_array_equal(crop.prepare(picture), picture[:, 10:20])
    stretch = ImagePreprocessing(height=10, width=10, fit="stretch", resample="nearest")
    np.testing.assert_array_equal(stretch.prepare(picture), picture[:, 1::3])
    tall = ImagePreprocessing(height=10, width=10, fit="crop", resample="nearest")
    standing = picture.transpose(1, 0, 2)
    np.testing.assert_array_equal(tall.prepare(standing), standing[10:20])


def test_crop_fraction_cuts_a_margin() -> None:
    picture = np.zeros((10, 10, 3), dtype=np.uint8)
    picture[2:8, 2:8] = 200
    inner = ImagePreprocessing(height=6, width=6, crop_fraction=0.6, resample="nearest")
    assert set(inner.prepare(picture).ravel().tolist()) == {200}
    for fit in ("crop", "stretch"):
        outer = ImagePreprocessing(height=10, width=10, fit=fit, resample="nearest")
        np.testing.assert_array_equal(outer.prepare(picture), picture)


@given(
    st.integers(4, 40), st.integers(1, 60), st.integers(1, 60), st.sampled_from(["crop", "stretch"])
)
def test_a_resized_whole_gives_the_tensor_from_its_middle(
    edge: int, height: int, width: int, fit: Any
) -> None:
    contract = ImagePreprocessing(height=3, width=4, fit=fit, resize_edge=edge)
    tensor = contract.prepare(scene(height, width))
    assert (tensor.shape, tensor.dtype, tensor.flags.writeable) == ((3, 4, 3), np.uint8, True)
    json_value = json.loads(json.dumps(contract.to_json()))
    assert ImagePreprocessing.from_json(json_value) == contract


def test_a_resized_whole_is_cut_at_whole_pixels() -> None:
    picture = scene(9, 31)
    contract = ImagePreprocessing(height=8, width=8, resize_edge=9, resample="nearest")
    np.testing.assert_array_equal(contract.prepare(picture), picture[0:8, 11:19])
    standing = picture.transpose(1, 0, 2)
    np.testing.assert_array_equal(contract.prepare(standing), standing[11:19, 0:8])


def test_a_strip_that_would_become_huge_is_refused() -> None:
    contract = ImagePreprocessing(height=224, width=224, resize_edge=256)
    with pytest.raises(InputError, match="would have 5120000x256") as caught:
        contract.prepare(np.zeros((1, 20_000), dtype=np.uint8))
    assert caught.value.limit == "max_pixels"


def test_a_contract_without_it_is_written_as_it_always_was() -> None:
    assert "resize_edge" not in SMALL.to_json()


@pytest.mark.parametrize("resample", ["bilinear", "bicubic", "lanczos"])
def test_shrinking_is_antialiased(resample: Any) -> None:
    # One-pixel stripes become their mean; picking pixels would make them black or white.
    stripes = np.zeros((80, 80), dtype=np.uint8)
    stripes[:, ::2] = 255
    tensor = ImagePreprocessing(height=8, width=8, resample=resample).prepare(stripes)
    assert np.abs(tensor[1:-1, 1:-1].astype(int) - 127).max() <= 8
    nearest = ImagePreprocessing(height=8, width=8, resample="nearest").prepare(stripes)
    assert set(nearest.ravel().tolist()) <= {0, 255}


def test_normalisation_is_its_formula(rng: np.random.Generator) -> None:
    preprocessing = ImagePreprocessing(
        height=4, width=5, mean=(1.5, 100.0, 200.0), std=(0.5, 64.0, 7.0)
    )
    images = rng.integers(0, 256, size=(2, 4, 5, 3), dtype=np.uint8)
    before = images.copy()
    got = preprocessing.normalise(images)
    assert (got.shape, got.dtype, got.flags.c_contiguous) == ((2, 3, 4, 5), np.float32, True)
    mean, std = np.array(preprocessing.mean), np.array(preprocessing.std)
    expected = ((images - mean) / std).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(images, before)


@given(preprocessings)
def test_json_brings_the_contract_back(preprocessing: ImagePreprocessing) -> None:
    text = json.dumps(preprocessing.to_json(), allow_nan=False)
    assert ImagePreprocessing.from_json(json.loads(text)) == preprocessing


@dataclass(frozen=True, kw_only=True)
class ContractCase:
    """A change that makes a stored contract unusable."""

    id: str
    changes: dict[str, Any]


def _normalisation(**changes: Any) -> dict[str, Any]:
    inside = {"inside_graph": True, "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}
    return {"normalisation": {**inside, **changes}}


@pytest.mark.parametrize(
    "case",
    [
        ContractCase(id="kind", changes={"kind": "text"}),
        ContractCase(id="no-height", changes={"height": 0}),
        ContractCase(id="negative-width", changes={"width": -8}),
        ContractCase(id="endless-width", changes={"width": float("inf")}),
        ContractCase(id="nan-width", changes={"width": float("nan")}),
        ContractCase(id="text-height", changes={"height": "tall"}),
        ContractCase(id="fit", changes={"fit": "squeeze"}),
        ContractCase(id="fit-list", changes={"fit": ["crop"]}),
        ContractCase(id="resample", changes={"resample": "magic"}),
        ContractCase(id="no-crop", changes={"crop_fraction": 0}),
        ContractCase(id="large-crop", changes={"crop_fraction": 1.01}),
        ContractCase(id="small-edge", changes={"resize_edge": 7}),
        ContractCase(id="edge-and-fraction", changes={"resize_edge": 9, "crop_fraction": 0.5}),
        ContractCase(id="edge-text", changes={"resize_edge": "many"}),
        ContractCase(id="nan-crop", changes={"crop_fraction": float("nan")}),
        ContractCase(id="no-normalisation", changes={"normalisation": None}),
        ContractCase(id="two-means", changes=_normalisation(mean=[1, 2])),
        ContractCase(id="four-means", changes=_normalisation(mean=[1, 2, 3, 4])),
        ContractCase(id="nan-mean", changes=_normalisation(mean=[1, float("nan"), 2])),
        ContractCase(id="zero-std", changes=_normalisation(std=[1, 0, 1])),
        ContractCase(id="nan-std", changes=_normalisation(std=[float("nan"), 1, 1])),
        ContractCase(id="endless-std", changes=_normalisation(std=[1, 1, float("inf")])),
    ],
    ids=lambda case: case.id,
)
def test_an_unusable_contract_is_refused(case: ContractCase) -> None:
    with pytest.raises(InputError, match="preprocessing contract is malformed"):
        ImagePreprocessing.from_json({**SMALL.to_json(), **case.changes})


@pytest.mark.parametrize("key", sorted(SMALL.to_json()))
def test_a_contract_without_a_key_is_refused(key: str) -> None:
    value = SMALL.to_json()
    del value[key]
    with pytest.raises(InputError, match=key):
        ImagePreprocessing.from_json(value)


def test_without_pillow_the_extra_is_named_and_tensors_still_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = ImageTask(preprocessing=SMALL, labels=ClassLabels(names=("a", "b")))
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'edgeml\[image\]'"):
        task.prepare(scene())
    feed = task.collate([np.zeros((8, 8, 3), dtype=np.uint8)] * 3)
    assert task.signature.check_inputs(feed) == 3


def test_the_signature_is_the_contracts() -> None:
    preprocessing = ImagePreprocessing(height=6, width=9)
    task = ImageTask(preprocessing=preprocessing, labels=ClassLabels(names=("a", "b")))
    assert [spec.describe() for spec in task.signature.inputs] == ["uint8 (batch, 6, 9, 3)"]
    assert [spec.describe() for spec in task.signature.outputs] == ["float32 (batch, 2)"]
    assert [spec.name for spec in task.signature.inputs] == ["image"]
    assert [spec.name for spec in task.signature.outputs] == ["probabilities"]
    feed = task.collate([task.prepare(scene()), task.prepare(scene(5, 5))])
    assert task.signature.check_inputs(feed) == 2
    outputs = {"probabilities": np.array([[0.25, 0.75], [1, 0]], dtype=np.float32)}
    answers = task.interpret(outputs, served_by="me")
    assert [(answer.label, answer.score) for answer in answers] == [("b", 0.75), ("a", 1.0)]


def test_a_tensor_may_be_written_to() -> None:
    # Those who take it without a copy, such as torch, warn of memory that is read-only.
    for item in (scene(8, 8), rgb_file(), scene(30, 20)):
        tensor = SMALL.prepare(item)
        assert tensor.flags.writeable
        tensor[:] = 0
    picture = scene(8, 8)
    SMALL.prepare(picture)[:] = 0
    np.testing.assert_array_equal(picture, scene(8, 8))


@pytest.mark.parametrize("fit", ["crop", "stretch"])
@pytest.mark.parametrize("shape", [(1, 50_000_000), (50_000_000, 1), (1, 65_536)])
def test_extreme_proportions_are_refused_by_name(fit: Any, shape: tuple[int, int]) -> None:
    preprocessing = ImagePreprocessing(height=96, width=96, fit=fit, resample="lanczos")
    with pytest.raises(InputError, match="the limit max_side is 65535"):
        preprocessing.prepare(np.broadcast_to(np.uint8(7), shape))
    with pytest.raises(InputError, match="max_side"):
        preprocessing.prepare(png(shape[1], shape[0]))  # by its header: there are no rows in it
    long = np.broadcast_to(np.uint8(7), (1, 65_535))
    assert set(preprocessing.prepare(long).ravel().tolist()) == {7}
