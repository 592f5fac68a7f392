"""Attention written anew, and the last layer for the first token alone: the same answers."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers
from onnx import numpy_helper

from edgeml.errors import ExportError
from edgeml.exporting.attention import count_attention, expand_attention, recognise_attention
from edgeml.exporting.first_token import keep_first_token
from edgeml.exporting.from_torch import OPSET
from edgeml.exporting.from_transformers import trace_text_model
from edgeml.exporting.graph import Graph, operator_set
from tests.small_text import KINDS, vocabulary
from tests.unit.exporting.cores import convolutions, operators, run

CLASSES = 3
# One layer of attention and a norm, as recognise_attention leaves them, and how it is read.
LAYER = """
<ir_version: 10, opset_import: ["": 18, "com.microsoft": 1]>
g (float[batch, tokens, 8] x, int32[batch, tokens] attention_mask) => (float[batch, {answer}] y)
<int64 zero = {{0}}, int64[1] axis = {{1}}>
{{
    mixed = com.microsoft.Attention<num_heads = 2>({inputs})
    joined = Add(mixed, x)
    last = LayerNormalization<axis = -1, epsilon = 0.00001>(joined, gain)
    {reading}
}}
"""
FIRST_TOKEN = "y = Gather<axis = 1>(last, zero)"
MEAN = "y = ReduceMean<keepdims = 0>(last, axis)"
MASKED = "x, weight, bias, attention_mask"


def layer(reading: str, *, inputs: str = MASKED, answer: str = "8") -> onnx.ModelProto:
    rng = np.random.default_rng(4)
    model = onnx.parser.parse_model(LAYER.format(reading=reading, inputs=inputs, answer=answer))
    shapes = {"weight": (8, 24), "bias": (24,), "gain": (8,)}
    model.graph.initializer.extend(
        numpy_helper.from_array(rng.normal(0, 0.7, shape).astype(np.float32), name)
        for name, shape in shapes.items()
    )
    return model


def traced(kind: str) -> onnx.ModelProto:
    """A random classifier whose answers differ from text to text."""
    config = transformers.AutoConfig.for_model(
        kind, vocab_size=len(vocabulary()), num_labels=CLASSES, **KINDS[kind]
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = transformers.AutoModelForSequenceClassification.from_config(config).eval()
        for weights in module.parameters():
            torch.nn.init.normal_(weights, 0, 0.3)
    return trace_text_model(module)


def test_layers_that_share_weights_share_them_still() -> None:
    weight = np.arange(64, dtype=np.float32).reshape(8, 8)
    model = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["": 18]>
        g (float[batch, 8] x) => (float[batch, 8] y)
        { a = MatMul(x, first)  b = MatMul(a, second)  y = MatMul(b, other) }
    """)
    model.graph.initializer.extend(
        numpy_helper.from_array(value, name)
        for name, value in (("first", weight), ("second", weight), ("other", weight + 1))
    )
    made = Graph(model).finish()
    assert [row.name for row in made.graph.initializer] == ["first", "other"]
    feed = {"x": np.ones((2, 8), np.float32)}
    np.testing.assert_array_equal(run(made, feed), run(model, feed))


@pytest.fixture(scope="module")
def bert() -> onnx.ModelProto:
    return traced("bert")


@pytest.fixture(scope="module", params=["bert", "distilbert", "roberta"])
def core(request: pytest.FixtureRequest) -> onnx.ModelProto:
    if request.param == "bert":
        return request.getfixturevalue("bert")
    return traced(request.param)


def text_feed(model: onnx.ModelProto, lengths: tuple[int, ...], *, to: int) -> dict[str, Any]:
    """Random ids of some lengths, padded to one."""
    rng = np.random.default_rng(1)
    ids = rng.integers(5, len(vocabulary()), (len(lengths), to))
    mask = (np.arange(to) < np.array(lengths)[:, None]).astype(np.int64)
    feed = {"input_ids": ids * mask, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    if all(length == to for length in lengths):
        feed["input_ids"] = ids
    return {row.name: feed[row.name] for row in model.graph.input}


FEEDS = {
    "one": ((1,), 1),
    "no-padding": ((9, 9, 9), 9),
    "padding": ((9, 4, 2, 1), 9),
    "all-are-padded": ((3, 2), 20),
}


@pytest.fixture(params=FEEDS.values(), ids=FEEDS)
def feed(request: pytest.FixtureRequest, core: onnx.ModelProto) -> dict[str, Any]:
    lengths, to = request.param
    return text_feed(core, lengths, to=to)


def test_expanded_attention_answers_the_same(core: onnx.ModelProto, feed: dict[str, Any]) -> None:
    recognised = recognise_attention(core)
    assert count_attention(recognised) == 2
    made = expand_attention(recognised)
    assert count_attention(made) == 0
    onnx.checker.check_model(made)
    exact = run(core, feed)
    assert exact.std() > 0.01
    np.testing.assert_allclose(run(made, feed), exact, atol=1e-5)


def test_the_first_token_alone_answers_the_same(
    core: onnx.ModelProto, feed: dict[str, Any]
) -> None:
    narrowed = keep_first_token(recognise_attention(core))
    assert narrowed is not None
    made = expand_attention(narrowed)
    np.testing.assert_allclose(run(made, feed), run(core, feed), atol=1e-5)


def test_padding_changes_no_answer(core: onnx.ModelProto) -> None:
    narrowed = keep_first_token(recognise_attention(core))
    assert narrowed is not None
    made = expand_attention(narrowed)
    short = text_feed(core, (6,), to=6)
    long = {name: np.pad(array, ((0, 0), (0, 11))) for name, array in short.items()}
    np.testing.assert_allclose(run(made, long), run(made, short), atol=1e-5)


def test_three_projections_become_one_and_the_mask_is_made_once(bert: onnx.ModelProto) -> None:
    before = bert.SerializeToString()
    made = expand_attention(recognise_attention(bert))
    assert bert.SerializeToString() == before
    # A layer: one projection, scores and their sum, what comes out, two of the block behind it.
    assert operators(made).count("MatMul") == 2 * 5
    assert operators(made).count("FusedMatMul") == 2
    assert operators(made).count("Sub") == 1
    assert len(made.graph.node) < 0.6 * len(bert.graph.node)


def test_the_last_layer_works_on_one_row(bert: onnx.ModelProto) -> None:
    recognised = recognise_attention(bert)
    narrowed = keep_first_token(recognised)
    assert narrowed is not None
    lengths = [len(node.input) for node in narrowed.graph.node if node.op_type == "Attention"]
    assert lengths == [4, 8]
    whole, made = expand_attention(recognised), expand_attention(narrowed)
    # The query's own projection takes one row; keys and values are those of all tokens.
    assert operators(made).count("MatMul") == operators(whole).count("MatMul") + 1
    assert _rows_of_feed_forwards(whole) == [9, 9]
    assert _rows_of_feed_forwards(made) == [9, 1]


def _rows_of_feed_forwards(model: onnx.ModelProto) -> list[int]:
    """The tokens that go into each layer's widest product."""
    probed, found = onnx.ModelProto(), []
    probed.CopyFrom(model)
    wide = {row.name for row in model.graph.initializer if list(row.dims) == [32, 64]}
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in wide and "/kv" not in node.output[0]:
            del probed.graph.output[:]
            probed.graph.output.append(
                onnx.helper.make_tensor_value_info(node.output[0], onnx.TensorProto.FLOAT, None)
            )
            found.append(run(probed, text_feed(model, (9, 4), to=9)).shape[1])
    return found


def _layer_feed() -> dict[str, Any]:
    rng = np.random.default_rng(6)
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]], dtype=np.int32)
    return {"x": rng.normal(size=(2, 5, 8)).astype(np.float32), "attention_mask": mask}


@pytest.mark.parametrize("inputs", [MASKED, "x, weight, bias"], ids=["masked", "without-a-mask"])
def test_one_layer_is_expanded(inputs: str) -> None:
    model, feed = layer(MEAN, inputs=inputs), _layer_feed()
    np.testing.assert_allclose(run(expand_attention(model), feed), run(model, feed), atol=1e-5)
    model = layer(FIRST_TOKEN, inputs=inputs)
    narrowed = keep_first_token(model)
    assert narrowed is not None
    np.testing.assert_allclose(run(expand_attention(narrowed), feed), run(model, feed), atol=1e-5)


@pytest.mark.parametrize(
    ("reading", "answer"),
    [
        (MEAN, "8"),
        ("first = Gather<axis = 1>(last, zero) mean = ReduceMean<keepdims = 0>(last, axis)"
         " y = Add(first, mean)", "8"),
        ("y = Gather<axis = 1>(last, axis)", "1, 8"),
        ("one = Squeeze(axis) y = Gather<axis = 1>(last, one)", "8"),
    ],
    ids=["mean", "mean-and-first", "second-as-rows", "second"],
)  # fmt: skip
def test_who_reads_more_than_the_first_token_keeps_them_all(reading: str, answer: str) -> None:
    assert keep_first_token(layer(reading, answer=answer)) is None


def test_an_answer_that_leaves_the_graph_keeps_all_tokens() -> None:
    model = layer(FIRST_TOKEN)
    model.graph.output.append(
        onnx.helper.make_tensor_value_info("last", onnx.TensorProto.FLOAT, ["batch", "tokens", 8])
    )
    assert keep_first_token(model) is None


def test_an_attention_with_a_bias_on_its_scores_stays_as_it_is(rng: np.random.Generator) -> None:
    model = layer(FIRST_TOKEN)
    bias = rng.normal(size=(1, 2, 5, 5)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(bias, "far"))
    model.graph.node[0].input.extend(["", "far"])
    assert keep_first_token(model) is None
    made, feed = expand_attention(model), _layer_feed()
    assert count_attention(made) == 1
    np.testing.assert_array_equal(run(made, feed), run(model, feed))


def test_a_graph_without_attention_stays_as_it_is() -> None:
    model = convolutions()
    feed = {"pixels": np.random.default_rng(2).normal(size=(2, 3, 8, 8)).astype(np.float32)}
    recognised = recognise_attention(model)
    assert count_attention(recognised) == 0
    assert keep_first_token(recognised) is None
    made = expand_attention(recognised)
    assert sorted(operators(made)) == sorted(operators(model))
    np.testing.assert_array_equal(run(made, feed), run(model, feed))


def test_a_traced_model_is_plain_onnx_with_free_axes(
    core: onnx.ModelProto, capsys: pytest.CaptureFixture[str]
) -> None:
    assert operator_set(core) == OPSET
    assert {node.domain for node in core.graph.node} == {""}
    assert [row.name for row in core.graph.output] == ["logits"]
    for row in core.graph.input:
        assert row.type.tensor_type.elem_type == onnx.TensorProto.INT64
        assert all(axis.dim_param for axis in row.type.tensor_type.shape.dim)
    recognise_attention(core)
    assert capsys.readouterr() == ("", "")


def test_tracing_is_quiet_and_leaves_loggers_as_they_were(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = (None, "optimum", "transformers", "torch.onnx", "onnxruntime.transformers")
    before = [logging.getLogger(name).level for name in names]
    expand_attention(recognise_attention(traced("distilbert")))
    assert [logging.getLogger(name).level for name in names] == before
    assert capsys.readouterr() == ("", "")


def test_what_is_no_text_model_is_refused() -> None:
    with pytest.raises(ExportError, match="optimum cannot export this Linear"):
        trace_text_model(torch.nn.Linear(2, 2))
