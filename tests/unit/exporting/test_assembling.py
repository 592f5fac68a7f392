"""The contract around a core: same signature, same arithmetic, on either way in."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx
import pytest

from edgeml.core.signature import ModelSignature, TensorSpec
from edgeml.errors import ExportError
from edgeml.exporting.assembling import (
    IR_VERSION,
    assemble_image_classifier,
    scalar_normalisation,
)
from edgeml.exporting.quantizing import TYPES_BY_INSTRUCTION_SET, StaticRecipe, quantize_core
from edgeml.tasks.image import ImagePreprocessing
from tests.small import parse
from tests.unit.exporting.cores import (
    SIDE,
    SIGNATURE,
    WINDOW,
    convolutions,
    operators,
    run,
    softmax,
)

SCALAR = ImagePreprocessing(height=SIDE, width=SIDE)
COLOURED = replace(SCALAR, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
QUANTIZER = """
<ir_version: 10, opset_import: ["": 18]>
core (float[batch, 3, 8, 8] pixels) => (float[batch, 5] logits)
<float scale = {0.0078125}, uint8 zero = {127}, int64[1] starts = {0}, int64[1] ends = {5},
 int64[1] axes = {1}>
{
    small = QuantizeLinear(pixels, scale, zero)
    back = DequantizeLinear(small, scale, zero)
    flat = Flatten(back)
    logits = Slice(flat, starts, ends, axes)
}
"""


def _every_value() -> np.ndarray:
    """Pictures in which every value appears among the first five of the first plane."""
    images = np.zeros((256, SIDE, SIDE, 3), dtype=np.uint8)
    for column in range(5):
        images[:, 0, column, 0] = (np.arange(256) + 51 * column) % 256
    return images


def test_the_assembled_model_has_the_signature_and_nothing_newer_than_it_may() -> None:
    model = assemble_image_classifier(convolutions(), SIGNATURE, SCALAR)
    (given,), (got,) = model.graph.input, model.graph.output
    assert (given.name, got.name) == ("image", "probabilities")
    assert [axis.dim_param or axis.dim_value for axis in given.type.tensor_type.shape.dim] == [
        "batch",
        8,
        8,
        3,
    ]
    assert [(row.domain, row.version) for row in model.opset_import] == [("", 18)]
    assert model.ir_version == IR_VERSION <= 10
    assert convolutions().ir_version > IR_VERSION  # the core was newer: that is what is proven


@pytest.mark.parametrize("preprocessing", [SCALAR, COLOURED], ids=["scalar", "per-channel"])
@pytest.mark.parametrize("batch", [1, 3, 7])
def test_it_computes_softmax_of_the_core_of_the_contracts_pixels(
    preprocessing: ImagePreprocessing, batch: int, rng: np.random.Generator
) -> None:
    images = rng.integers(0, 256, (batch, SIDE, SIDE, 3), dtype=np.uint8)
    core = convolutions()
    before = core.SerializeToString()
    got = run(assemble_image_classifier(core, SIGNATURE, preprocessing), {"image": images})
    logits = run(core, {"pixels": preprocessing.normalise(images)})
    np.testing.assert_allclose(got, softmax(logits), atol=1e-6)
    assert got.dtype == np.float32
    assert core.SerializeToString() == before


def test_the_graph_normalises_like_numpy_to_the_bit() -> None:
    for preprocessing in (SCALAR, COLOURED):
        model = assemble_image_classifier(parse(WINDOW), SIGNATURE, preprocessing)
        # Without the softmax the five logits can be read.
        softmax_node = model.graph.node.pop()
        model.graph.output[0].name = softmax_node.input[0]
        expected = preprocessing.normalise(_every_value())[:, 0, 0, :5]
        np.testing.assert_array_equal(run(model, {"image": _every_value()}), expected)


@pytest.mark.parametrize(("height", "width"), [(3, 7), (7, 3), (1, 5), (5, 1)])
def test_pictures_that_are_not_square_keep_each_value_in_its_place(
    height: int, width: int, rng: np.random.Generator
) -> None:
    preprocessing = replace(COLOURED, height=height, width=width)
    count = 3 * height * width
    images = (TensorSpec(name="image", dtype="uint8", shape=("batch", height, width, 3)),)
    outputs = (TensorSpec(name="probabilities", dtype="float32", shape=("batch", count)),)
    core = parse(
        '<ir_version: 10, opset_import: ["": 18]> '
        f"core (float[batch, 3, {height}, {width}] pixels) => (float[batch, {count}] logits) "
        "{ logits = Flatten(pixels) }"
    )
    signature = ModelSignature(inputs=images, outputs=outputs)
    model = assemble_image_classifier(core, signature, preprocessing)
    softmax_node = model.graph.node.pop()
    model.graph.output[0].name = softmax_node.input[0]
    pictures = rng.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    expected = preprocessing.normalise(pictures).reshape(2, -1)
    np.testing.assert_array_equal(run(model, {"image": pictures}), expected)


def test_no_loop_over_the_channels_of_a_pixel_is_left() -> None:
    """In front of quantized kernels the arithmetic runs on (height, width, channel)."""
    for preprocessing, length in ((SCALAR, 1), (COLOURED, 3 * SIDE)):
        graph = assemble_image_classifier(convolutions(), SIGNATURE, preprocessing).graph
        sizes = {row.name: list(row.dims) for row in graph.initializer}
        assert sizes["edgeml_mean"] == sizes["edgeml_scale"] == [length]


def test_the_integer_way_in_gives_the_same_bits() -> None:
    core = parse(QUANTIZER)
    by_arithmetic = assemble_image_classifier(core, SIGNATURE, SCALAR)
    by_integers = assemble_image_classifier(core, SIGNATURE, SCALAR, integer_input=True)
    assert "Cast" in operators(by_arithmetic)
    assert not {"Cast", "Sub", "Mul", "QuantizeLinear"} & set(operators(by_integers))
    images = {"image": _every_value()}
    np.testing.assert_array_equal(run(by_integers, images), run(by_arithmetic, images))
    # And so do those of a real quantized network, every kernel included.
    samples = SCALAR.normalise(_every_value())
    recipe = StaticRecipe(
        types=TYPES_BY_INSTRUCTION_SET["avx_vnni"], input_scale=scalar_normalisation(SCALAR)
    )
    quantized = quantize_core(convolutions(), samples, recipe)
    pair = [
        assemble_image_classifier(quantized, SIGNATURE, SCALAR, integer_input=way)
        for way in (True, False)
    ]
    np.testing.assert_array_equal(run(pair[0], images), run(pair[1], images))


def test_a_core_without_a_quantizer_has_no_integer_way_in() -> None:
    with pytest.raises(ExportError, match="starts with Conv; one QuantizeLinear was expected"):
        assemble_image_classifier(convolutions(), SIGNATURE, SCALAR, integer_input=True)


def test_a_core_whose_input_has_two_readers_has_none_either() -> None:
    core = parse(QUANTIZER)
    core.graph.node.append(onnx.helper.make_node("Shape", ["pixels"], ["unused"]))
    with pytest.raises(ExportError, match="QuantizeLinear, Shape"):
        assemble_image_classifier(core, SIGNATURE, SCALAR, integer_input=True)


def test_a_core_with_two_inputs_is_refused() -> None:
    core = parse(
        """
        <ir_version: 10, opset_import: ["": 18]>
        core (float[batch, 5] pixels, float[batch, 5] more) => (float[batch, 5] logits)
        { logits = Add(pixels, more) }
        """
    )
    with pytest.raises(ExportError, match="several inputs or outputs"):
        assemble_image_classifier(core, SIGNATURE, SCALAR)


@dataclass(frozen=True, kw_only=True)
class ScalarCase:
    """A normalisation, and whether one scale and zero point can be it."""

    id: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    expected: tuple[float, int] | None


@pytest.mark.parametrize(
    "case",
    [
        ScalarCase(id="lite", mean=(127,) * 3, std=(128,) * 3, expected=(1 / 128, 127)),
        ScalarCase(id="zero", mean=(0,) * 3, std=(255,) * 3, expected=(1 / 255, 0)),
        ScalarCase(id="half", mean=(127.5,) * 3, std=(127.5,) * 3, expected=None),
        ScalarCase(id="means-differ", mean=(127, 127, 126), std=(128,) * 3, expected=None),
        ScalarCase(id="scales-differ", mean=(127,) * 3, std=(128, 128, 64), expected=None),
        ScalarCase(id="out-of-range", mean=(256,) * 3, std=(128,) * 3, expected=None),
        ScalarCase(id="negative", mean=(-1,) * 3, std=(128,) * 3, expected=None),
    ],
    ids=lambda case: case.id,
)
def test_one_scale_for_all_channels_or_none(case: ScalarCase) -> None:
    preprocessing = ImagePreprocessing(height=8, width=8, mean=case.mean, std=case.std)
    assert scalar_normalisation(preprocessing) == case.expected
