"""What NVIDIA's backend refuses, ours refuses too; strings, several inputs and outputs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx.parser
import pytest

from benchmarks.serving.costs import SAID
from tests.unit.serving.test_backend import (
    Request,
    TritonError,
    TritonModelException,
    load_backend,
)

STRINGS = """
<ir_version: 10, opset_import: ["": 18]>
strings (string[batch, n] words, float[batch, 2] bias) => (string[batch, n] same, float[batch, 2] y)
{
    same = Identity(words)
    y = Add(bias, bias)
}
"""
CONFIG: dict[str, Any] = {
    "name": "strings",
    "max_batch_size": 8,
    "input": [
        {"name": "words", "data_type": "TYPE_STRING", "dims": ["-1"]},
        {"name": "bias", "data_type": "TYPE_FP32", "dims": ["2"]},
    ],
    "output": [
        {"name": "same", "data_type": "TYPE_STRING", "dims": ["-1"]},
        {"name": "y", "data_type": "TYPE_FP32", "dims": ["2"]},
    ],
    "parameters": {},
}


@pytest.fixture
def backend(monkeypatch):
    module = load_backend(monkeypatch)
    monkeypatch.setattr(module.np, "__version__", "1.26.4")
    return module


@pytest.fixture
def start(backend, tmp_path):
    def started(graph: str = STRINGS, **changes: Any) -> Any:
        (tmp_path / "1").mkdir(exist_ok=True)
        model = onnx.parser.parse_model(graph)
        (tmp_path / "1/model.onnx").write_bytes(model.SerializeToString())
        config = json.loads(json.dumps({**CONFIG, **changes}))
        model = backend.TritonPythonModel()
        model.initialize(
            {
                "model_config": json.dumps(config),
                "model_instance_kind": "CPU",
                "model_repository": str(tmp_path),
                "model_version": "1",
            }
        )
        return model

    return started


def words(*rows: list[Any]) -> Request:
    """Return a request as Triton's stub gives it: strings are bytes."""
    texts = np.array(rows, dtype=np.object_)
    return Request({"words": texts, "bias": np.ones((len(rows), 2), np.float32)})


def answers(response: Any) -> dict[str, Any]:
    assert response.error is None, response.error
    return {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors}


def test_strings_are_joined_and_split_with_several_inputs_and_outputs(start):
    model = start()
    sent = [words([b"a", "Größe".encode()]), words([b"", b"c"], [b"d", b"e"]), words([b"lone"])]
    first, second, third = (answers(one) for one in model.execute(sent))
    assert first["same"].tolist() == [["a", "Größe"]]
    assert second["same"].tolist() == [["", "c"], ["d", "e"]]
    assert third["same"].tolist() == [["lone"]]
    assert second["y"].tolist() == [[2.0, 2.0]] * 2


@pytest.mark.parametrize(
    ("text", "says"), [(b"\xff\xfe", "no UTF-8"), (b"cut\x00here", "zero byte within a string")]
)
def test_a_string_that_nvidias_backend_would_change_harms_no_neighbour(start, text, says):
    good, bad, other = start().execute([words([b"a"]), words([text]), words([b"b"])])
    assert says in bad.error.message
    assert bad.error.code == TritonError.INVALID_ARG
    assert answers(good)["same"].tolist() == [["a"]]
    assert answers(other)["same"].tolist() == [["b"]]


def test_an_empty_batch_is_answered_with_an_error(start):
    nothing = Request({"words": np.empty((0, 1), np.object_), "bias": np.empty((0, 2), np.float32)})
    empty, good = start().execute([nothing, words([b"a"])])
    assert "batch of 0" in empty.error.message
    assert answers(good)["same"].tolist() == [["a"]]


@dataclass(frozen=True, kw_only=True)
class Refused:
    id: str
    says: str
    changes: dict[str, Any]
    graph: str = STRINGS


def inputs(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"input": [{**old, **new} for old, new in zip(CONFIG["input"], rows, strict=True)]}


def outputs(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"output": [{**old, **new} for old, new in zip(CONFIG["output"], rows, strict=True)]}


def parameters(**values: str) -> dict[str, Any]:
    return {"parameters": {key: {"string_value": value} for key, value in values.items()}}


REFUSED = [
    Refused(
        id="dtype", says="'bias' is tensor(float)", changes=inputs({}, {"data_type": "TYPE_FP16"})
    ),
    Refused(id="dtype-out", says="output 'y' is", changes=outputs({}, {"data_type": "TYPE_INT8"})),
    Refused(id="dims", says="declares [3] behind the batch", changes=inputs({}, {"dims": ["3"]})),
    Refused(id="rank", says="declares [2, 1] behind", changes=inputs({}, {"dims": ["2", "1"]})),
    Refused(
        id="output-of-free-size",
        says="output 'same' has the shape",
        changes=outputs({"dims": ["4"]}, {}),
    ),
    Refused(
        id="fixed-batch",
        says="needs a first axis that is free",
        changes={},
        graph=STRINGS.replace("float[batch, 2] bias", "float[1, 2] bias"),
    ),
    Refused(id="input-missing", says="has the inputs", changes={"input": CONFIG["input"][:1]}),
    Refused(id="output-unknown", says="has the outputs", changes=outputs({"name": "other"}, {})),
    Refused(id="optional", says="'bias' is optional", changes=inputs({}, {"optional": True})),
    Refused(id="ragged", says="is ragged", changes=inputs({"allow_ragged_batch": True}, {})),
    Refused(id="batch-input", says="has batch_input", changes={"batch_input": [{"kind": "X"}]}),
    Refused(
        id="state", says="has sequence_batching", changes={"sequence_batching": {"state": [{}]}}
    ),
    Refused(
        id="own-operators",
        says="has model_operations",
        changes={"model_operations": {"op_library_filename": ["libmine.so"]}},
    ),
    Refused(id="mode", says="execution_mode is 2", changes=parameters(execution_mode="2")),
    Refused(
        id="threads", says="is 'two'; a whole", changes=parameters(intra_op_thread_count="two")
    ),
    Refused(id="arena", says="is 'maybe'; true or", changes=parameters(enable_mem_arena="maybe")),
    Refused(
        id="shared-session",
        says="share a session",
        changes=parameters(share_session_between_instances="true"),
    ),
    Refused(
        id="accelerator",
        says="the accelerator 'openvino'",
        changes={
            "optimization": {
                "execution_accelerators": {"cpu_execution_accelerator": [{"name": "openvino"}]}
            }
        },
    ),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.id)
def test_what_nvidias_backend_refuses_is_refused(start, case):
    with pytest.raises(TritonModelException) as caught:
        start(case.graph, **case.changes)
    assert case.says in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        parameters(execution_mode="1", inter_op_thread_count="2"),
        parameters(enable_mem_arena="False", enable_mem_pattern="0"),
        parameters(**{"memory.enable_memory_arena_shrinkage": "cpu:0"}),
        parameters(share_session_between_instances="false"),
        {"optimization": {"graph": {"level": 2}}},
        {
            "optimization": {
                "execution_accelerators": {"gpu_execution_accelerator": [{"name": "x"}]}
            }
        },
        {"output": CONFIG["output"][1:]},
        inputs({"dims": ["5"]}, {}),
    ],
)
def test_what_it_takes_is_taken(start, changes):
    (response,) = start(**changes).execute([words([b"a", b"b", b"c", b"d", b"e"])])
    assert answers(response)["y"].tolist() == [[2.0, 2.0]]


def test_a_scalar_is_declared_by_ones_alone(start):
    scalar = STRINGS.replace("float[batch, 2]", "float").replace("[batch, n]", "[n]")
    whole = {"max_batch_size": 0}
    with pytest.raises(TritonModelException, match="'bias' has the shape"):
        start(scalar, **whole)
    one = {"dims": ["1"]}
    assert start(scalar, **whole, **inputs({}, one), **outputs({}, one))


def test_a_folder_is_the_model_in_it(start, tmp_path):
    start()
    (tmp_path / "1/whole").mkdir()
    (tmp_path / "1/model.onnx").rename(tmp_path / "1/whole/model.onnx")
    assert start(default_model_filename="whole")


def test_what_answers_cost_is_said_at_the_end(backend, start, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(backend.pb_utils.Logger, "log_info", said.append)
    model = start()
    model.execute([words([b"a"]), words([b"b"])])
    model.finalize()
    assert said[-1].startswith("strings: ")
    requests, runs, inside_us, beside_us = map(int, SAID.search(said[-1]).groups())
    assert (requests, runs) == (2, 1)
    assert inside_us >= 0
    assert beside_us > 0


def test_types_are_looked_up_as_triton_numbers_them(backend, start):
    start()
    number = backend.pb_utils.numpy_to_triton_type
    assert number(np.dtype(np.float32)) == 11
    assert number(np.dtype(np.object_)) == 13
    assert number(np.dtype("S3")) == 0  # Triton's own answer for what is not in the table
