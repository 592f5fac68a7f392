"""A ranker's graphs: shapes, the request computed once, INT8 whose rows mind their own business."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from edgeml.errors import ExportError, ParityError
from edgeml.exporting.checks import INVARIANCE_TOLERANCE_MIXED
from edgeml.exporting.graph import operator_set
from edgeml.exporting.quantizing import TYPES_BY_INSTRUCTION_SET
from edgeml.exporting.ranker_graphs import example_feed, ranker_candidates, trace_ranker
from edgeml.training.recommendation.ranker_settings import RankerSettings
from edgeml.training.recommendation.wide_and_deep import WideAndDeep
from tests.unit.ranker_rows import FIELDS, ranker_rows

TYPES = TYPES_BY_INSTRUCTION_SET["avx512_vnni"]


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    return WideAndDeep(FIELDS, RankerSettings(hidden=(32, 16)), ranker_rows(400)).eval()


@pytest.fixture(scope="module")
def graph(module):
    return trace_ranker(module, FIELDS)


@pytest.fixture(scope="module")
def candidates(graph):
    rows = ranker_rows(400)
    feeds = [FIELDS.feed(rows.take(np.arange(start, start + 20))) for start in range(0, 400, 20)]
    return {name: model for name, (model, _) in ranker_candidates(graph, feeds, TYPES).items()}


def _session(model):
    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )


def test_names_shapes_and_operator_set(graph):
    session = _session(graph)
    assert operator_set(graph) == 18
    found = {row.name: (row.type, row.shape) for row in session.get_inputs()}
    assert found["request_ids"] == ("tensor(int64)", [1, 2])
    assert found["candidate_numbers"] == ("tensor(float)", ["candidates", 2])
    assert [row.name for row in session.get_outputs()] == ["scores", "heads"]


def test_the_requests_products_have_one_row(graph):
    """Everything that multiplies the request's part sees one row, whatever the candidates."""
    inferred = onnx.shape_inference.infer_shapes(graph)
    shapes = {
        row.name: [axis.dim_param or axis.dim_value for axis in row.type.tensor_type.shape.dim]
        for row in inferred.graph.value_info
    }
    reached = {"request_ids", "request_numbers"}
    heavy = 0
    candidates = {"candidate_ids", "candidate_numbers"}
    for node in inferred.graph.node:
        if candidates & set(node.input):
            candidates.update(node.output)
        elif reached & set(node.input):
            reached.update(node.output)
            if node.op_type in ("Gemm", "MatMul"):
                heavy += 1
                assert shapes[node.output[0]][0] == 1
    assert heavy == 2  # the first layer's part, and the line of the wide part


def test_a_module_that_answers_otherwise_than_its_graph_is_refused(module):
    calls: list[int] = []

    class Counting(torch.nn.Module):
        def forward(self, request_ids, request_numbers, candidate_ids, candidate_numbers):
            calls.append(1)  # tracing keeps the count of its own call
            scores, heads = module(request_ids, request_numbers, candidate_ids, candidate_numbers)
            return scores + 0.01 * len(calls), heads

    with pytest.raises(ParityError):
        trace_ranker(Counting(), FIELDS)


def test_integer_candidates_stay_near_and_keep_neighbours_out(graph, candidates, rng):
    feed = FIELDS.feed(ranker_rows(20, seed=5))
    wanted = _session(graph).run(["scores"], feed)[0]
    assert set(candidates) == {"int8-qdq-minmax", "int8-qdq-mse", "int8-linear"}
    for name, model in candidates.items():
        session = _session(model)
        found = session.run(["scores"], feed)[0]
        assert np.abs(found - wanted).max() < 0.05, name
        alone = [
            session.run(
                ["scores"],
                {
                    **feed,
                    **{
                        key: feed[key][place : place + 1]
                        for key in feed
                        if key.startswith("candidate")
                    },
                },
            )[0][0]
            for place in range(5)
        ]
        np.testing.assert_allclose(alone, found[:5], atol=INVARIANCE_TOLERANCE_MIXED, err_msg=name)


def test_only_hidden_products_are_in_integers(candidates):
    """Two hidden layers; the request's part, the head and the wide part's line stay in float."""
    linear = candidates["int8-linear"]
    assert sum(node.op_type == "MatMulIntegerToFloat" for node in linear.graph.node) == 2
    weights = {row.name: row.dims for row in linear.graph.initializer}
    for node in linear.graph.node:
        if node.op_type == "MatMulIntegerToFloat":
            assert weights[node.input[1]][1] in (32, 16)


def test_a_drawn_feed_is_valid(rng):
    FIELDS.check(example_feed(FIELDS, 7, rng))


def test_a_ranker_without_hidden_products_is_refused():
    shallow = WideAndDeep(FIELDS, RankerSettings(hidden=(4,)), ranker_rows(100)).eval()
    graph = trace_ranker(shallow, FIELDS)
    for node in list(graph.graph.node):
        if node.op_type in ("MatMul", "Gemm"):
            node.op_type = "Mul"
    with pytest.raises(ExportError, match="no hidden layer"):
        ranker_candidates(graph, [], TYPES)
