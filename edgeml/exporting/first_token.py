"""Where only the first token's answer is read, the last layer computes only that.

A classifier with a [CLS] head throws away the last layer's other rows. Everything after the last
attention works on each token by itself, so those rows need not be computed: the answer is the same
to the bit, and of the last of six layers five sixths of the work is gone.
"""

from __future__ import annotations

import numpy as np
import onnx

from edgeml.exporting.graph import Graph, attribute

# Operators that work on each token by itself, when their other inputs are constant or such rows.
_ROW_WISE = frozenset({"Add", "LayerNormalization", "MatMul", "Gelu", "FastGelu", "Relu", "Tanh"})


def keep_first_token(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """Compute only the first token where only it is read.

    Args:
        model: With ``Attention`` nodes, from
            :func:`~edgeml.exporting.attention.recognise_attention`.

    Returns:
        The model whose last Attention has the first row as an eighth input, for
        :func:`~edgeml.exporting.attention.expand_attention`; None where the model does not read the
        first token alone.
    """
    graph = Graph(model)
    reader = next((node for node in graph.nodes if _takes_first(graph, node)), None)
    if reader is None:
        return None
    narrow = _narrow_nodes(graph, reader)
    attentions = [node for node in narrow if node.op_type == "Attention"]
    if len(attentions) != 1:
        return None
    made = {name for node in narrow for name in node.output}
    first = graph.add_constant(np.array([0]), "edgeml/first")
    rows: dict[str, str] = {}

    def row_of(name: str) -> str:
        if name not in rows:
            rows[name] = graph.fresh(f"{name}/first")
            graph.nodes.append(graph.make("Gather", [name, first], [rows[name]], axis=1))
        return rows[name]

    for node in narrow:
        if node.op_type == "Attention":
            # Attention's own inputs 4 to 6 are optional and empty in encoders.
            padding = [""] * (7 - len(node.input))
            node.input.extend([*padding, row_of(node.input[0])])
            continue
        for index, name in enumerate(node.input):
            if name not in made and not graph.is_constant(name):
                node.input[index] = row_of(name)
    return graph.finish()


def _takes_first(graph: Graph, node: onnx.NodeProto) -> bool:
    """Return whether a node reads token 0 of ``(batch, tokens, width)``."""
    if node.op_type != "Gather" or attribute(node, "axis", 0) != 1:
        return False
    index = graph.constant(node.input[1])
    return index is not None and index.ndim == 0 and int(index) == 0


def _narrow_nodes(graph: Graph, reader: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Return the nodes all of whose readers need only the first token."""
    readers = graph.readers()
    narrow: list[onnx.NodeProto] = []
    inside = {id(reader)}
    growing = True
    while growing:
        growing = False
        for node in graph.nodes:
            if id(node) in inside or not _may_narrow(graph, node):
                continue
            users = [user for name in node.output for user in readers[name]]
            exported = any(name in graph.outputs for name in node.output)
            needed = all(id(user) in inside and user.op_type != "Attention" for user in users)
            if users and needed and not exported:
                inside.add(id(node))
                narrow.append(node)
                growing = True
    return narrow


def _may_narrow(graph: Graph, node: onnx.NodeProto) -> bool:
    if node.op_type == "Attention":
        return not any(node.input[4:])
    if node.op_type == "LayerNormalization":
        return bool(attribute(node, "axis", -1) == -1)
    if node.op_type == "MatMul":
        weight = graph.constant(node.input[1])
        return weight is not None and weight.ndim == 2
    if node.op_type == "Add":
        constants = [graph.constant(name) for name in node.input]
        return all(value is None or value.ndim <= 1 for value in constants)
    return node.op_type in _ROW_WISE
