"""The guard before a real server: what would kill it is refused, everything else arrives."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from urllib.parse import urlsplit

import numpy as np
import pytest
import tritonclient.grpc as official
from tritonclient.utils import InferenceServerException

from edgeml.serving.client.engine import TritonEngine
from edgeml.serving.client.golden import check_golden
from edgeml.serving.guard.checks import GuardLimits
from edgeml.serving.repository.options import ServingOptions
from edgeml.serving.repository.publish import publish_bundle
from edgeml.serving.server.running import TritonServer
from edgeml.serving.server.serve import start_triton
from edgeml.serving.server.status import status_of
from tests.integration.killers import CHUNKED, DEEP, FLOOD, WIDE, post

pytestmark = pytest.mark.triton

INFER = "/v2/models/tiny/infer"
ROW = {"name": "image", "datatype": "UINT8", "shape": [1, 8, 8, 3]}
PLAIN = json.dumps({"inputs": [{**ROW, "data": [7] * 192}]})


@pytest.fixture(scope="module")
def guarded(triton, tiny, tmp_path_factory) -> Iterator[TritonServer]:
    """A guarded server without supervision: whatever kills it stays visible."""
    root = tmp_path_factory.mktemp("guarded")
    publish_bundle(tiny, root, options=ServingOptions(encoded=True))
    with start_triton(root, installation=triton, guard=GuardLimits()) as server:
        yield server


@pytest.mark.parametrize(
    ("body", "words"), [(WIDE, "too many elements"), (DEEP, "levels deep")], ids=["shape", "depth"]
)
def test_what_kills_a_server_is_refused(guarded, body, words):
    status, answer = post(guarded.http, INFER, body)
    assert status == 400
    assert words in json.loads(answer)["error"]
    assert guarded.is_running()
    assert post(guarded.http, INFER, PLAIN)[0] == 200


def test_a_flood_of_chunks_is_refused(guarded):
    """Over 500,000 of them end a Triton 2.51."""
    status, answer = post(guarded.http, INFER, FLOOD, **CHUNKED)
    assert (status, "chunks of 1 bytes" in json.loads(answer)["error"]) == (400, True)
    assert guarded.is_running()


def test_the_classes_of_labels_are_refused_and_those_of_scores_answered(guarded):
    """Triton 2.51 divides by zero for those of strings."""
    texts = {"inputs": [{"name": "probabilities", "datatype": "FP32", "shape": [1, 4]}]}
    texts["inputs"][0]["data"] = [0.1, 0.2, 0.3, 0.4]
    texts["outputs"] = [{"name": "label", "parameters": {"classification": 1}}]
    status, answer = post(guarded.http, "/v2/models/tiny_labels/infer", json.dumps(texts))
    assert (status, "is of strings" in json.loads(answer)["error"]) == (400, True)
    wanted = {**json.loads(PLAIN), "outputs": [{"name": "probabilities"}]}
    wanted["outputs"][0]["parameters"] = {"classification": 1}
    assert post(guarded.http, INFER, json.dumps(wanted))[0] == 200
    assert guarded.is_running()


def test_a_batch_of_nothing_is_refused(guarded):
    status, answer = post(guarded.http, INFER, json.dumps({"inputs": [{**ROW, "shape": [0, 0]}]}))
    assert (status, "holds no sample" in json.loads(answer)["error"]) == (400, True)


@pytest.mark.parametrize(
    "path",
    [
        "/v2/repository/models/tiny/unload",
        "/v2/repository/models/tiny/load",
        "/v2//repository/models/tiny/unload",
        "/v2/systemsharedmemory/region/mine/register",
        "/v2/logging",
    ],
)
def test_control_is_refused(guarded, path):
    status, answer = post(guarded.http, path, "{}")
    assert (status, "--guard-allow-control" in json.loads(answer)["error"]) == (400, True)
    assert status_of(guarded.http)[0].state == "ready"


def test_control_is_refused_over_grpc_too(guarded, tiny):
    with official.InferenceServerClient(guarded.grpc.removeprefix("grpc://")) as client:
        for control in (
            lambda: client.unload_model("tiny"),
            lambda: client.load_model("tiny"),
            lambda: client.register_system_shared_memory("mine", "/mine", 64),
            lambda: client.update_log_settings({"log_verbose_level": 1}),
        ):
            with pytest.raises(InferenceServerException, match="protocol is restricted"):
                control()
        assert client.is_model_ready("tiny")
    engine = TritonEngine(guarded.grpc, model="tiny")
    assert check_golden(engine, tiny).ok
    engine.close()


def test_the_client_works_through_it(guarded, tiny):
    assert guarded.http != guarded.control
    engine = TritonEngine(guarded.http, model="tiny")
    assert check_golden(engine, tiny).ok
    batch = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 3), dtype=np.uint8)
    direct = TritonEngine(guarded.control, model="tiny")
    for name, values in engine.run({"image": batch}).items():
        np.testing.assert_array_equal(values, direct.run({"image": batch})[name])
    engine.close()
    direct.close()


def test_one_connection_carries_many_requests_of_every_kind(guarded):
    parts = urlsplit(guarded.http)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    connection.request("GET", "/v2/health/ready")
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b"")
    local = connection.sock.getsockname()
    found = []
    for body in (PLAIN.encode(), iter([PLAIN.encode()[:100], PLAIN.encode()[100:]])):
        connection.request("POST", INFER, body=body)
        answer = connection.getresponse()
        assert answer.status == 200
        found.append(json.loads(answer.read())["outputs"])
    head = json.dumps({"inputs": [{**ROW, "parameters": {"binary_data_size": 192}}]}).encode()
    connection.request(
        "POST",
        INFER,
        body=iter([head, bytes([7] * 100), bytes([7] * 92)]),
        headers={"Inference-Header-Content-Length": str(len(head))},
    )
    answer = connection.getresponse()
    assert answer.status == 200
    length = int(answer.getheader("Inference-Header-Content-Length", "0"))
    body = answer.read()
    found.append(json.loads(body[:length] if length else body)["outputs"])
    assert connection.sock.getsockname() == local
    connection.close()
    assert found[0] == found[1] == found[2]


def test_an_error_of_the_server_is_passed_on(guarded):
    row = {**ROW, "shape": [1, 8, 8, 4], "data": [0] * 256}
    status, answer = post(guarded.http, INFER, json.dumps({"inputs": [row]}))
    assert status == 400
    assert "unexpected shape" in json.loads(answer)["error"]
