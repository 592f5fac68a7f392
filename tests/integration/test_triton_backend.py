"""Our ONNX Runtime backend within the real Triton: strings, strictness, resources."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import pytest
import tritonclient.grpc as official

from edgeml.serving.repository.config import DEFAULT_CONFIG, config_text
from edgeml.serving.repository.options import ServingOptions
from edgeml.serving.repository.publish import publish_bundle
from edgeml.serving.server.serve import TritonServer, start_triton
from tests.integration.test_triton_serving import burst, tensor
from tests.unit.serving.test_backend_strictness import CONFIG, REFUSED, STRINGS

pytestmark = pytest.mark.triton

GROUP = {"instance_group": [{"kind": "KIND_CPU", "count": 1}]}
# Triton's own core refuses these before any backend sees them.
BY_TRITON = ("batch-input", "state")


def write_model(root: Path, name: str, graph: str, **changes: Any) -> None:
    """Put a model into a repository that nobody published: a stranger's."""
    values = {"backend": "onnxruntime", "dynamic_batching": {}, **GROUP, **CONFIG, **changes}
    folder = root / name
    (folder / "1").mkdir(parents=True)
    (folder / DEFAULT_CONFIG).write_text(config_text({**values, "name": name}), encoding="utf-8")
    model = onnx.parser.parse_model(graph)
    (folder / "1/model.onnx").write_bytes(model.SerializeToString())


@pytest.fixture(scope="module")
def strict(triton, tiny, tmp_path_factory) -> Iterator[TritonServer]:
    root = tmp_path_factory.mktemp("strict")
    write_model(root, "strings", STRINGS)
    for case in REFUSED:
        if case.id not in BY_TRITON:
            write_model(root, case.id, case.graph, **case.changes)
    options = ServingOptions(resources={"memory": 1}, priority=2)
    for name in ("one", "two"):
        publish_bundle(tiny, root, name=name, policy="forbidden", options=options)
    with start_triton(root, installation=triton, supervised=False) as server:
        yield server


@pytest.fixture
def client(strict):
    with official.InferenceServerClient(strict.grpc.removeprefix("grpc://")) as running:
        yield running


def words(*rows: list[bytes]) -> list[official.InferInput]:
    return [
        tensor("words", np.array(rows, dtype=np.object_), "BYTES"),
        tensor("bias", np.ones((len(rows), 2), np.float32), "FP32"),
    ]


def test_strings_pass_through_alone_and_joined(client):
    sent = [[[b"a", "Größe".encode()]], [[b"", b"c"], [b"d", b"e"]], [[b"long" * 1000, b"x"]]] * 8
    for rows, (result, error) in zip(
        sent, burst(client, "strings", [words(*rows) for rows in sent]), strict=True
    ):
        assert error is None
        assert result.as_numpy("same").tolist() == rows
        assert result.as_numpy("y").tolist() == [[2.0, 2.0]] * len(rows)


def test_bad_strings_harm_no_neighbour(client):
    sent = [b"good", b"\xff\xfe", b"good", b"cut\x00here", b"good"] * 8
    answers = burst(client, "strings", [words([text]) for text in sent])
    for text, (result, error) in zip(sent, answers, strict=True):
        if text == b"good":
            assert error is None
            assert result.as_numpy("same").tolist() == [[b"good"]]
        else:
            assert ("no UTF-8" if text[:1] == b"\xff" else "zero byte") in str(error)


def test_what_nvidias_backend_refuses_is_not_served(strict):
    rows = {row.name: row for row in strict.models()}
    for case in REFUSED:
        if case.id not in BY_TRITON:
            assert rows[case.id].state == "unavailable", case.id
            assert case.says in rows[case.id].reason, rows[case.id]
    assert rows["strings"].state == "ready"


def test_models_that_ask_for_the_same_resource_are_served_in_turns(strict, client, tiny):
    image = tensor("image", tiny.golden().tensors["image"][:1], "UINT8")
    for _ in range(3):
        for name in ("one", "two"):
            assert client.infer(name, [image]).as_numpy("probabilities").shape == (1, 4)
    assert "| rate_limit                       | EXEC_COUNT" in strict.log_path.read_text()
