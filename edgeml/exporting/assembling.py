"""Put the contract around a traced core: uint8 NHWC images in, probabilities out.

The arithmetic form (Cast, Sub, Mul) is right on every device. A quantized core whose first scale
*is* the normalisation takes the uint8 values as they are: (x - 127) / 128 is exactly
DequantizeLinear(x, 1/128, 127), so the float image is never made. TensorRT refuses non-zero zero
points, hence only there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeml.core.dtypes import BY_NUMPY
from edgeml.core.signature import ModelSignature, TensorSpec
from edgeml.errors import ExportError
from edgeml.tasks.image import ImagePreprocessing

# Containers of the 24.10 generation read no newer intermediate representation.
IR_VERSION = 10


def assemble_image_classifier(
    core: onnx.ModelProto,
    signature: ModelSignature,
    preprocessing: ImagePreprocessing,
    *,
    integer_input: bool = False,
    temperature: float = 1.0,
) -> onnx.ModelProto:
    """Wrap a core that maps normalised pixels to logits.

    Args:
        core: One float32 input ``(batch, 3, height, width)``, one output ``(batch, classes)``.
        signature: What the assembled model shall take and give.
        preprocessing: Whose normalisation goes into the graph.
        integer_input: Feed the uint8 values past the core's first QuantizeLinear, see the module's
            head.
        temperature: Divides the logits.

    Returns:
        A checked model with exactly this signature.

    Raises:
        ExportError: The core has not the form described.
    """
    model = onnx.ModelProto()
    model.CopyFrom(core)
    graph = model.graph
    if len(graph.input) != 1 or len(graph.output) != 1:
        raise ExportError("the core has several inputs or outputs; one of each was expected")
    image, probabilities = signature.inputs[0], signature.outputs[0]
    core_input, core_output = graph.input[0].name, graph.output[0].name
    if integer_input:
        head = [_to_planes(image.name, "edgeml_planes")]
        _bypass_quantizer(graph, core_input, "edgeml_planes")
    elif len({*zip(preprocessing.mean, preprocessing.std, strict=True)}) == 1:
        head = [
            _to_planes(image.name, "edgeml_planes"),
            *_arithmetic(
                graph, preprocessing.mean[:1], preprocessing.std[:1], ("edgeml_planes", core_input)
            ),
        ]
    else:
        head = _by_rows(graph, preprocessing, (image.name, core_input))
    tail, logits = [], core_output
    if temperature != 1.0:
        logits = "edgeml_scaled_logits"
        value = np.array(1 / temperature, dtype=np.float32)
        graph.initializer.append(numpy_helper.from_array(value, "edgeml_temperature"))
        tail.append(helper.make_node("Mul", [core_output, "edgeml_temperature"], [logits]))
    tail.append(helper.make_node("Softmax", [logits], [probabilities.name], axis=-1))
    nodes = [*head, *graph.node, *tail]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    graph.input.append(value_info(image))
    graph.output.append(value_info(probabilities))
    graph.name = "edgeml"
    model.ir_version = IR_VERSION
    model.producer_name = "edgeml"
    strip_notes(model)
    onnx.checker.check_model(model)
    return model


def scalar_normalisation(preprocessing: ImagePreprocessing) -> tuple[float, int] | None:
    """Return scale and zero point that equal the normalisation exactly, or None.

    Quantized convolutions take one scale for all channels, so the three must agree, and the mean
    must be a value that a uint8 can have.
    """
    mean, std = preprocessing.mean[0], preprocessing.std[0]
    alike = set(preprocessing.mean) == {mean} and set(preprocessing.std) == {std}
    if not alike or mean != int(mean) or not 0 <= mean <= 255:
        return None
    return 1 / std, int(mean)


def _to_planes(images: str, output: str) -> onnx.NodeProto:
    return helper.make_node("Transpose", [images], [output], perm=[0, 3, 1, 2])


def _by_rows(
    graph: onnx.GraphProto, preprocessing: ImagePreprocessing, ends: tuple[str, str]
) -> list[onnx.NodeProto]:
    """Normalise whole rows of pixels, where the channels differ.

    ONNX Runtime moves the Transpose behind the arithmetic, in front of quantized convolutions.
    There three values a pixel would be a loop of three, 20 times as slow as one along a row.
    """
    images, output = ends
    height, width = preprocessing.height, preprocessing.width
    shapes = {"edgeml_row_shape": [0, height, 3 * width], "edgeml_shape": [0, height, width, 3]}
    for name, shape in shapes.items():
        graph.initializer.append(numpy_helper.from_array(np.array(shape, dtype=np.int64), name))
    return [
        helper.make_node("Reshape", [images, "edgeml_row_shape"], ["edgeml_rows"]),
        *_arithmetic(
            graph,
            preprocessing.mean * width,
            preprocessing.std * width,
            ("edgeml_rows", "edgeml_scaled"),
        ),
        helper.make_node("Reshape", ["edgeml_scaled", "edgeml_shape"], ["edgeml_pixels"]),
        _to_planes("edgeml_pixels", output),
    ]


def _arithmetic(
    graph: onnx.GraphProto, mean: Sequence[float], std: Sequence[float], ends: tuple[str, str]
) -> list[onnx.NodeProto]:
    values = {
        "edgeml_mean": np.asarray(mean, dtype=np.float32),
        "edgeml_scale": np.float32(1) / np.asarray(std, dtype=np.float32),
    }
    for name, value in values.items():
        graph.initializer.append(numpy_helper.from_array(value, name))
    return [
        helper.make_node("Cast", [ends[0]], ["edgeml_float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["edgeml_float", "edgeml_mean"], ["edgeml_centred"]),
        helper.make_node("Mul", ["edgeml_centred", "edgeml_scale"], [ends[1]]),
    ]


def _bypass_quantizer(graph: onnx.GraphProto, core_input: str, planes: str) -> None:
    readers = [node for node in graph.node if core_input in node.input]
    if len(readers) != 1 or readers[0].op_type != "QuantizeLinear":
        found = ", ".join(node.op_type for node in readers)
        raise ExportError(
            f"the quantized core starts with {found}; one QuantizeLinear was expected"
        )
    quantizer = readers[0]
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == quantizer.output[0]:
                node.input[index] = planes
    graph.node.remove(quantizer)


def strip_notes(model: onnx.ModelProto) -> None:
    """Remove what exporters note for their authors: stack traces with paths, parameter lists.

    It is a fifth of a megabyte in every file, and makes equal models differ from folder to folder.
    """
    graph = model.graph
    del model.metadata_props[:], graph.metadata_props[:]
    holders = (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer)
    for holder in holders:
        del holder.metadata_props[:]
        holder.doc_string = ""


def value_info(spec: TensorSpec) -> onnx.ValueInfoProto:
    """Return a graph's declaration of a tensor."""
    return helper.make_tensor_value_info(spec.name, BY_NUMPY[spec.dtype].onnx, list(spec.shape))
