"""Put the contract around a text core: ids in, probabilities out, temperature inside the graph."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgeml.core.signature import ModelSignature
from edgeml.errors import ExportError
from edgeml.exporting.assembling import IR_VERSION, strip_notes, value_info


def assemble_text_classifier(
    core: onnx.ModelProto,
    signature: ModelSignature,
    *,
    temperature: float = 1.0,
    multi_label: bool = False,
) -> onnx.ModelProto:
    """Wrap a core that maps ids to logits.

    Args:
        core: int64 inputs of the signature's names, one float32 output ``(batch, classes)``.
        signature: What the assembled model shall take and give.
        temperature: Divides the logits.
        multi_label: Sigmoid for each class instead of softmax over all.

    Returns:
        A checked model with exactly this signature.

    Raises:
        ExportError: The core's inputs are not the signature's.
    """
    model = onnx.ModelProto()
    model.CopyFrom(core)
    graph = model.graph
    wanted, found = {row.name for row in signature.inputs}, {row.name for row in graph.input}
    if wanted != found or len(graph.output) != 1:
        raise ExportError(
            f"the core takes {', '.join(sorted(found))} and gives {len(graph.output)} outputs; "
            f"{', '.join(sorted(wanted))} and one output were expected"
        )
    logits, output = graph.output[0].name, signature.outputs[0].name
    scaled = logits
    if temperature != 1.0:
        scaled = "edgeml_scaled"
        value = np.array(1 / temperature, dtype=np.float32)
        graph.initializer.append(numpy_helper.from_array(value, "edgeml_temperature"))
        graph.node.append(helper.make_node("Mul", [logits, "edgeml_temperature"], [scaled]))
    last = (
        helper.make_node("Sigmoid", [scaled], [output])
        if multi_label
        else helper.make_node("Softmax", [scaled], [output], axis=-1)
    )
    graph.node.append(last)
    del graph.input[:], graph.output[:], graph.value_info[:]
    graph.input.extend(value_info(spec) for spec in signature.inputs)
    graph.output.extend(value_info(spec) for spec in signature.outputs)
    graph.name = "edgeml"
    model.ir_version = IR_VERSION
    model.producer_name = "edgeml"
    strip_notes(model)
    onnx.checker.check_model(model)
    return model
