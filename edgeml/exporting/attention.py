"""Attention, recognised and written anew in the form that runs fastest on a CPU.

ONNX Runtime's transformer optimiser finds the pattern in what exporters write (some thirty nodes a
layer, three separate projections). Its own fused kernels for what it found are slower on a CPU than
plain operators (MultiHeadAttention, SkipLayerNormalization: docs/adr/0012), so only its eyes are
used: each Attention becomes one projection, one transposition, and two products.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.transformers.fusion_options import FusionOptions
from onnxruntime.transformers.optimizer import optimize_model

from edgeml.exporting.graph import CONTRIB, Graph, attribute

# Added to the scores of masked positions: far enough that their weight is exactly zero in float32,
# and near enough that a quantizer's range would survive it.
MASK_VALUE = -10_000.0

_FUSIONS_OFF = (
    "enable_embed_layer_norm",
    "enable_skip_layer_norm",
    "enable_bias_skip_layer_norm",
    "enable_bias_gelu",
)


def recognise_attention(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replace what looks like self-attention by single ``Attention`` nodes.

    Args:
        model: An encoder as an exporter wrote it; it is not changed.

    Returns:
        The model with ``com.microsoft.Attention`` nodes that take the raw mask, and whole Gelus
        and layer normalisations; without a match, the model as it was.
    """
    options = FusionOptions("bert")
    for name in _FUSIONS_OFF:
        setattr(options, name, False)
    options.use_raw_attention_mask(use_raw_mask=True)
    with tempfile.TemporaryDirectory(prefix="edgeml-attention-") as folder, _quiet():
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        # Zero heads and width: it reads them from the graph.
        found = optimize_model(
            str(path),
            model_type="bert",
            num_heads=0,
            hidden_size=0,
            opt_level=0,
            optimization_options=options,
        )
    assert isinstance(found.model, onnx.ModelProto)
    return found.model


def count_attention(model: onnx.ModelProto) -> int:
    """Return how many ``Attention`` nodes a model has."""
    return sum(node.op_type == "Attention" for node in model.graph.node)


def masked_additions(model: onnx.ModelProto) -> tuple[str, ...]:
    """Return the names of the nodes that make a mask and add it to attention scores.

    They hold the mask's far value: no range of eight bits can hold it and the scores.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    softened = {node.input[0] for node in model.graph.node if node.op_type == "Softmax"}
    found: dict[str, None] = {}
    for node in model.graph.node:
        if node.op_type != "Add" or node.output[0] not in softened:
            continue
        found[node.name] = None
        # The other operand is the scores: a product. What leads to the mask is followed up.
        waiting = [name for name in node.input if _makes_mask(makers.get(name))]
        while waiting:
            maker = makers.get(waiting.pop())
            if maker is not None and _makes_mask(maker):
                found[maker.name] = None
                waiting.extend(maker.input)
    return tuple(found)


def _makes_mask(node: onnx.NodeProto | None) -> bool:
    return node is not None and node.op_type in ("Unsqueeze", "Mul", "Sub", "Cast")


def expand_attention(model: onnx.ModelProto) -> onnx.ModelProto:
    """Write each ``Attention`` as one projection and plain products.

    The scale is folded into the query's weights. An Attention whose answer is read at the first
    token alone (:func:`~edgeml.exporting.first_token.keep_first_token`) has a second input of one
    row: the query is projected from it.

    Args:
        model: From :func:`recognise_attention`.
    """
    graph = Graph(model)
    masks: dict[str, str] = {}
    nodes = []
    for node in graph.nodes:
        # Inputs 4 to 6 (a past, a bias on the scores) are beyond an encoder: left as they are.
        if node.op_type == "Attention" and not any(node.input[4:7]):
            nodes.extend(_Expansion(graph, node, masks).nodes)
        else:
            nodes.append(node)
    graph.nodes = nodes
    return graph.finish()


class _Expansion:
    """One Attention written out; ``nodes`` takes its place."""

    def __init__(self, graph: Graph, node: onnx.NodeProto, masks: dict[str, str]) -> None:
        self.graph = graph
        self.nodes: list[onnx.NodeProto] = []
        self.prefix = node.name or node.output[0]
        hidden, weight, bias, mask = [*node.input, ""][:4]  # the mask may be left out
        query = node.input[7] if len(node.input) > 7 else hidden
        num_heads = int(attribute(node, "num_heads"))
        weights, biases = graph.constant(weight), graph.constant(bias)
        assert weights is not None
        assert biases is not None
        width = weights.shape[1] // 3
        scale = np.float32(1 / np.sqrt(width // num_heads))
        weights, biases = weights.copy(), biases.copy()
        weights[:, :width] *= scale
        biases[:width] *= scale
        if query == hidden:
            joined = self._project(hidden, weights, biases, "qkv")
            q, k, v = self._heads(joined, parts=("q", "k", "v"), num_heads=num_heads)
        else:
            alone = self._project(query, weights[:, :width], biases[:width], "query")
            (q,) = self._heads(alone, parts=("q",), num_heads=num_heads)
            joined = self._project(hidden, weights[:, width:], biases[width:], "kv")
            k, v = self._heads(joined, parts=("k", "v"), num_heads=num_heads)
        scores = self._add("FusedMatMul", [q, k], "scores", domain=CONTRIB, transB=1)
        if mask:
            scores = self._add("Add", [scores, self._mask(mask, masks)], "masked")
        shares = self._add("Softmax", [scores], "shares", axis=-1)
        mixed = self._add("MatMul", [shares, v], "mixed")
        back = self._add("Transpose", [mixed], "back", perm=[0, 2, 1, 3])
        shape = graph.add_constant(np.array([0, 0, width]), f"{self.prefix}/width")
        self.nodes.append(graph.make("Reshape", [back, shape], [node.output[0]]))

    def _add(self, op_type: str, inputs: list[str], name: str, **attributes: object) -> str:
        output = self.graph.fresh(f"{self.prefix}/{name}")
        self.nodes.append(self.graph.make(op_type, inputs, [output], **attributes))  # type: ignore[arg-type]
        return output

    def _project(
        self,
        source: str,
        weights: npt.NDArray[np.float32],
        biases: npt.NDArray[np.float32],
        name: str,
    ) -> str:
        weight = self.graph.add_constant(weights, f"{self.prefix}/{name}/weight")
        bias = self.graph.add_constant(biases, f"{self.prefix}/{name}/bias")
        product = self._add("MatMul", [source, weight], f"{name}/product")
        return self._add("Add", [product, bias], name)

    def _heads(self, joined: str, *, parts: tuple[str, ...], num_heads: int) -> list[str]:
        """Turn ``(batch, tokens, width)`` into parts of ``(batch, heads, tokens, size)``."""
        count = num_heads * len(parts)
        shape = self.graph.add_constant(np.array([0, 0, count, -1]), f"{self.prefix}/heads")
        rows = self._add("Reshape", [joined, shape], "rows")
        turned = self._add("Transpose", [rows], "turned", perm=[0, 2, 1, 3])
        if len(parts) == 1:
            return [turned]
        outputs = [self.graph.fresh(f"{self.prefix}/{part}") for part in parts]
        split = self.graph.make("Split", [turned], outputs, axis=1, num_outputs=len(parts))
        self.nodes.append(split)
        return outputs

    def _mask(self, mask: str, masks: dict[str, str]) -> str:
        """Return what is added to scores, ``(batch, 1, 1, tokens)``, made once a graph."""
        if mask not in masks:
            one = self.graph.add_constant(np.array(1, np.float32), "edgeml/one")
            far = self.graph.add_constant(np.array(MASK_VALUE, np.float32), "edgeml/far")
            axes = self.graph.add_constant(np.array([1, 2]), "edgeml/axes")
            flags = self._add("Cast", [mask], "flags", to=onnx.TensorProto.FLOAT)
            hidden = self._add("Sub", [one, flags], "hidden")
            sent = self._add("Mul", [hidden, far], "sent")
            masks[mask] = self._add("Unsqueeze", [sent, axes], "mask")
        return masks[mask]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the optimiser's progress off the terminal."""
    loggers = [
        logging.getLogger(name)
        for name in ("onnxruntime.transformers", "fusion_base", "onnx_model", "optimizer")
    ]
    root = logging.getLogger()
    levels = [logger.level for logger in (root, *loggers)]
    for logger in (root, *loggers):
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip((root, *loggers), levels, strict=True):
            logger.setLevel(level)
