"""Put the contract around a traced core: uint8 NHWC images in, probabilities out.

The arithmetic form (Cast, Sub, Mul) is right on every device. A quantized core whose first scale
*is* the normalisation takes the uint8 values as they are: (x - 127) / 128 is exactly
DequantizeLinear(x, 1/128, 127), so the float image is never made. TensorRT refuses non-zero zero
points, hence only there.
"""

from __future__ import annotations

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
    head = [helper.make_node("Transpose", [image.name], ["edgeml_planes"], perm=[0, 3, 1, 2])]
    if integer_input:
        _bypass_quantizer(graph, core_input, "edgeml_planes")
    else:
        head += _arithmetic(graph, preprocessing, core_input)
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


def _arithmetic(
    graph: onnx.GraphProto, preprocessing: ImagePreprocessing, output: str
) -> list[onnx.NodeProto]:
    mean = np.asarray(preprocessing.mean, dtype=np.float32).reshape(1, 3, 1, 1)
    scale = np.float32(1) / np.asarray(preprocessing.std, dtype=np.float32).reshape(1, 3, 1, 1)
    graph.initializer.append(numpy_helper.from_array(mean, "edgeml_mean"))
    graph.initializer.append(numpy_helper.from_array(scale, "edgeml_scale"))
    return [
        helper.make_node("Cast", ["edgeml_planes"], ["edgeml_float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["edgeml_float", "edgeml_mean"], ["edgeml_centred"]),
        helper.make_node("Mul", ["edgeml_centred", "edgeml_scale"], [output]),
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
