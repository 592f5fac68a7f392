"""A graph as it is edited: who makes a tensor, who reads it, what is constant.

ONNX stores lists; passes ask for neighbours. This is the index they share, and the few edits that
keep it true. A pass builds one, edits, and calls :meth:`Graph.finish`.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper
from onnxruntime.transformers.onnx_model import OnnxModel

CONTRIB = "com.microsoft"


class Graph:
    """An editable copy of a model.

    Args:
        model: The model; it is not changed.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        self._names: Counter[str] = Counter()
        graph = self._model.graph
        self._constants = {row.name: row for row in graph.initializer}
        self._fold_constant_nodes()
        self.nodes: list[onnx.NodeProto] = list(graph.node)
        self.outputs = tuple(row.name for row in graph.output)
        self._taken = {name for node in self.nodes for name in (*node.output, node.name)}
        self._taken |= set(self._constants)

    def producers(self) -> dict[str, onnx.NodeProto]:
        """Return who makes each tensor."""
        return {name: node for node in self.nodes for name in node.output if name}

    def readers(self) -> Mapping[str, list[onnx.NodeProto]]:
        """Return who reads each tensor; a graph's output counts as no reader."""
        found: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in node.input:
                found[name].append(node)
        return found

    def is_constant(self, name: str) -> bool:
        """Return whether a tensor is an initializer."""
        return name in self._constants

    def constant(self, name: str) -> npt.NDArray[Any] | None:
        """Return a constant's value, or None where the tensor is computed."""
        row = self._constants.get(name)
        return None if row is None else np.asarray(numpy_helper.to_array(row))

    def add_constant(self, value: npt.NDArray[Any], name: str) -> str:
        """Add an initializer under this name, made unique, and return the name it got."""
        unique = self.fresh(name)
        # Not ascontiguousarray, which makes a vector of a scalar.
        self._constants[unique] = numpy_helper.from_array(np.asarray(value, order="C"), unique)
        return unique

    def fresh(self, name: str) -> str:
        """Return a name that nothing in the graph has."""
        unique = name
        while unique in self._taken:
            self._names[name] += 1
            unique = f"{name}_{self._names[name]}"
        self._taken.add(unique)
        return unique

    def make(
        self,
        op_type: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        *,
        domain: str = "",
        **attributes: Any,
    ) -> onnx.NodeProto:
        """Return a new node, named after its first output; the caller puts it into ``nodes``."""
        name = self.fresh(f"{outputs[0]}/{op_type}")
        return helper.make_node(
            op_type, list(inputs), list(outputs), name=name, domain=domain, **attributes
        )

    def finish(self) -> onnx.ModelProto:
        """Return the edited model: sorted, without what nobody reads; equal constants are one."""
        graph = self._model.graph
        nodes = self._alive()
        self._join_equal_constants(nodes)
        read = {name for node in nodes for name in node.input} | set(self.outputs)
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(nodes)
        graph.initializer.extend(row for name, row in self._constants.items() if name in read)
        contrib = any(node.domain == CONTRIB for node in nodes)
        if contrib and all(row.domain != CONTRIB for row in self._model.opset_import):
            self._model.opset_import.append(helper.make_opsetid(CONTRIB, 1))
        OnnxModel(self._model).topological_sort()
        return self._model

    def _join_equal_constants(self, nodes: Sequence[onnx.NodeProto]) -> None:
        """Let equal constants be read under one name: layers that share weights share them."""
        firsts: dict[tuple[object, ...], str] = {}
        other: dict[str, str] = {}
        for name in dict.fromkeys(name for node in nodes for name in node.input):
            if name not in self._constants:
                continue
            value = numpy_helper.to_array(self._constants[name])
            digest = hashlib.sha256(value.tobytes()).digest()
            first = firsts.setdefault((str(value.dtype), value.shape, digest), name)
            if first != name:
                other[name] = first
        for node in nodes:
            for index, name in enumerate(node.input):
                if name in other:
                    node.input[index] = other[name]

    def _alive(self) -> list[onnx.NodeProto]:
        """Return the nodes that an output depends on."""
        makers = self.producers()
        seen: set[int] = set()
        open_names = list(self.outputs)
        while open_names:
            node = makers.get(open_names.pop())
            if node is not None and id(node) not in seen:
                seen.add(id(node))
                open_names.extend(node.input)
        return [node for node in self.nodes if id(node) in seen]

    def _fold_constant_nodes(self) -> None:
        """Turn Constant nodes into initializers, so that passes look in one place."""
        graph = self._model.graph
        kept = []
        for node in graph.node:
            value = next((a.t for a in node.attribute if a.name == "value"), None)
            if node.op_type != "Constant" or value is None:
                kept.append(node)
                continue
            row = onnx.TensorProto()
            row.CopyFrom(value)
            row.name = node.output[0]
            self._constants[row.name] = row
        del graph.node[:]
        graph.node.extend(kept)


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """Return a node's attribute as a Python value."""
    for row in node.attribute:
        if row.name == name:
            return helper.get_attribute_value(row)
    return default


def operator_set(model: onnx.ModelProto) -> int:
    """Return the version of the default operator set that a model uses."""
    return int(next(row.version for row in model.opset_import if row.domain in ("", "ai.onnx")))
