"""torch, fp32, fp16 and INT8 give the same answers, within one table, at any size and batch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

import edgeml
from edgeml.core.predictor import Predictor
from edgeml.errors import HostMismatchWarning
from edgeml.exporting.answers import Answers, Reading, collect_answers
from edgeml.exporting.checks import (
    GOLDEN_TOLERANCE,
    NO_TOLERANCE,
    PARITY_TOLERANCE,
    check_invariance,
    check_parity,
)
from edgeml.runtime.engine import OnnxEngine, SessionSettings
from edgeml.tasks.samples import ArraySamples
from tests.trained import SIDE, Trained

VARIANTS = ("fp32", "fp16", "int8")


@pytest.fixture(scope="module")
def pictures(trained: Trained) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Every picture that the model was not fitted to, then noise of every brightness."""
    parts = [edgeml.load_split(trained.checkpoint, part=part) for part in ("validation", "test")]
    real = np.concatenate([tensors["image"] for tensors, _ in parts])
    rng = np.random.default_rng(7)
    noise = rng.integers(0, 256, (24, SIDE, SIDE, 3), dtype=np.uint8)
    return real, noise


@pytest.fixture(scope="module")
def torch_answers(trained: Trained, pictures: Any) -> Iterator[np.ndarray[Any, Any]]:
    threads = torch.get_num_threads()
    with edgeml.load_checkpoint(trained.checkpoint, num_threads=1) as predictor:
        yield _answers(predictor, np.concatenate(pictures))
    torch.set_num_threads(threads)


def _answers(predictor: Predictor, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return predictor.run({"image": images})["probabilities"]


def _load(trained: Trained, variant: str) -> Predictor:
    with warnings.catch_warnings():
        warnings.simplefilter("error", HostMismatchWarning)  # it was exported here
        return edgeml.load(trained.bundle, variant=variant, num_threads=2)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_answers_like_torch(
    trained: Trained,
    pictures: Any,
    torch_answers: Any,
    variant: str,
    record_property: Callable[[str, object], None],
) -> None:
    with _load(trained, variant) as predictor:
        got = _answers(predictor, np.concatenate(pictures))
    reference, answers = (Answers(probabilities=rows) for rows in (torch_answers, got))
    tolerance = PARITY_TOLERANCE.get(variant, NO_TOLERANCE)
    parity = check_parity(reference, answers, tolerance=tolerance)
    record_property("worst", parity.to_json())
    assert parity.ok, parity
    if variant != "int8":
        assert parity.flips == 0
    else:
        # Single samples may move far; the whole may not.
        assert parity.mean_abs_diff < 0.15
        assert parity.flips <= len(got) // 4


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_answer_does_not_depend_on_its_neighbours(
    trained: Trained, pictures: Any, variant: str
) -> None:
    row = trained.exported.bundle.manifest.variant(variant)
    assert row
    engine = OnnxEngine(trained.bundle / row.file)
    samples = ArraySamples("image", np.concatenate(pictures))
    found = check_invariance(engine, samples, Reading(), batch_sizes=(2, 5, 36))
    assert found.ok, found


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_answer_does_not_depend_on_the_number_of_threads(
    trained: Trained, pictures: Any, variant: str
) -> None:
    row = trained.exported.bundle.manifest.variant(variant)
    assert row
    one, two = (
        collect_answers(
            OnnxEngine(trained.bundle / row.file, settings=SessionSettings(num_threads=count)),
            ArraySamples("image", pictures[0]),
            Reading(),
        ).probabilities
        for count in (1, 2)
    )
    np.testing.assert_allclose(one, two, atol=GOLDEN_TOLERANCE[variant])


def test_a_file_gets_the_answer_of_its_tensor(trained: Trained) -> None:
    file = trained.pictures / "red/03.png"
    with _load(trained, "fp32") as predictor:
        by_file = predictor.predict(file)
        contract = edgeml.Bundle.read(trained.bundle).manifest.preprocessing
        assert (contract["height"], contract["width"]) == (SIDE, SIDE)
        with Image.open(file) as image:
            tensor = np.array(image.convert("RGB"))
        (by_tensor,) = predictor.predict_tensors({"image": tensor[None]})
    assert by_file == by_tensor


@pytest.mark.parametrize("name", ["fp32", "fp16", "int8"])
def test_a_file_carries_no_notes_of_the_machine_that_made_it(trained: Trained, name: str) -> None:
    file = trained.bundle / f"variants/{name}/model.onnx"
    graph = onnx.load(file).graph
    nodes = (*graph.node, *graph.value_info, *graph.initializer)
    assert not any(node.metadata_props or node.doc_string for node in nodes)
    assert b"edgeml/training" not in file.read_bytes()
    assert b"stack_trace" not in file.read_bytes()
