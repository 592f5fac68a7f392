"""What the app answers, and what it refuses: over real sockets."""

from __future__ import annotations

import base64
import io
import json
import socket
import threading
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import numpy as np
import pytest

import edgeml
from edgeml.core.bundle import Bundle
from edgeml.core.predictor import Prediction
from edgeml.errors import HostError, InputError
from edgeml.serving.web.answering import Answerer
from edgeml.serving.web.app import build_app
from edgeml.serving.web.forms import FORMS
from edgeml.serving.web.limits import WebLimits
from edgeml.serving.web.running import WebServer
from tests.pictures import rgb_file
from tests.unit.serving.web.conftest import Client, Reply

Start = Callable[[str], Client]
SAMPLE = {"values": [1.0, 2.0], "weights": [3, 4]}


def archive(**arrays: object) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def test_a_picture_is_answered_as_in_process(start: Start, bundles: dict[str, Bundle]) -> None:
    reply = start("image")(body=rgb_file(), kind="image/png")
    with edgeml.load(bundles["image"], num_threads=1) as predictor:
        expected = predictor.predict(rgb_file())
    assert reply.status == 200
    assert reply.body["label"] == expected.label
    assert reply.body["scores"] == pytest.approx(dict(expected.scores))
    assert reply.body["served_by"] == expected.served_by
    assert {row.partition(";")[0].strip() for row in reply.headers["server-timing"].split(",")} == {
        *("queue", "decode", "infer", "postprocess"),
    }


@pytest.mark.parametrize("kind", ["image/jpeg", "image/x-anything", "application/octet-stream"])
def test_any_kind_of_picture_is_a_picture(start: Start, kind: str) -> None:
    assert start("image")(body=rgb_file(), kind=kind).status == 200


def test_json_carries_pictures_texts_and_arrays(start: Start) -> None:
    encoded = base64.b64encode(rgb_file()).decode()
    assert start("image")(value={"image": encoded}).body["label"]
    assert start("text")(value={"text": "the good film"}).body["label"] == "good"
    assert start("tensor")(value={"inputs": SAMPLE}).body["outputs"] == {
        "products": [3.0, 8.0],
        "totals": 11.0,
    }


def test_text_and_arrays_travel_plainly_too(start: Start) -> None:
    reply = start("text")(body=b"the bad film", kind="text/plain; charset=utf-8")
    assert reply.body["label"] == "bad"
    body = archive(values=np.float32([1, 2]), weights=np.int64([3, 4]))
    assert start("tensor")(body=body, kind="application/x-npz").body["outputs"]["totals"] == 11.0


def test_a_long_text_says_that_it_was_cut(start: Start) -> None:
    assert start("text")(value={"text": "good " * 50}).body["truncated"] is True


def test_a_bad_item_of_a_batch_costs_itself_alone(start: Start) -> None:
    items = [{"text": "good"}, {"text": 7}, {"words": "good"}, {"text": "bad"}]
    rows = start("text")(value={"items": items}).body["predictions"]
    assert [row.get("label") for row in rows] == ["good", None, None, "bad"]
    assert "a string was expected" in rows[1]["error"]
    assert "was expected" in rows[2]["error"]


@pytest.mark.parametrize(
    ("served", "request_", "status", "words"),
    [
        ("image", {"body": b"no picture", "kind": "image/png"}, 422, "image"),
        ("image", {"body": rgb_file()[:60], "kind": "image/png"}, 422, "image"),
        ("image", {"body": b"", "kind": "image/png"}, 400, "the body is empty"),
        ("image", {"body": rgb_file(), "kind": "text/plain"}, 415, "image/*"),
        ("image", {"body": rgb_file()}, 415, "no content type"),
        ("image", {"value": {"image": "%%%"}}, 422, "base64"),
        ("image", {"value": {"text": "a bag"}}, 400, '{"image"'),
        ("text", {"body": b"{", "kind": "application/json"}, 400, "not JSON"),
        ("text", {"body": b"[" * 100_000, "kind": "application/json"}, 400, "not JSON"),
        ("text", {"value": ["good"]}, 400, "an object was expected"),
        ("text", {"value": {}}, 400, '{"text"'),
        ("text", {"value": {"text": 3}}, 422, "a string was expected"),
        ("text", {"value": {"items": []}}, 400, "1 to 64"),
        ("text", {"value": {"items": [{"text": "a"}] * 65}}, 400, "1 to 64"),
        ("text", {"body": b"\xff\xfe", "kind": "text/plain"}, 422, "UTF-8"),
        ("tensor", {"value": {"inputs": {"values": [1, 2, 3]}}}, 422, "weights"),
        ("tensor", {"value": {"inputs": {**SAMPLE, "values": [[1, 2]] * 2}}}, 422, "values"),
        ("tensor", {"value": {"inputs": {**SAMPLE, "values": [1, 2, 3]}}}, 422, "steps"),
        ("tensor", {"value": {"inputs": {**SAMPLE, "weights": [0.5, 1]}}}, 422, "weights"),
        ("tensor", {"value": {"inputs": [1, 2]}}, 422, "an object from input name"),
        (
            "tensor",
            {"body": b'{"inputs": {"values": [NaN]}}', "kind": "application/json"},
            400,
            "NaN is no JSON number",
        ),
        (
            "tensor",
            {
                "body": archive(values=np.float32([np.nan, 1]), weights=np.int64([1, 1])),
                "kind": "application/x-npz",
            },
            422,
            "NaN",
        ),
        ("tensor", {"body": b"PK\x03\x04junk", "kind": "application/x-npz"}, 422, "cannot be read"),
        ("logs", {"value": {"inputs": {"x": [-1.0, 1, 1]}}}, 500, "NaN or infinity"),
    ],
)
def test_bad_requests_get_one_line_and_the_server_lives(
    start: Start, served: str, request_: dict[str, object], status: int, words: str
) -> None:
    client = start(served)
    reply: Reply = client(**request_)  # type: ignore[arg-type]
    assert (reply.status, words in reply.error) == (status, True), reply
    assert client("/readyz").status == 200


def test_an_archive_that_unpacks_to_too_much_is_refused(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeml.serving.web.forms._UNPACKED_BYTES", 1000)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("values.npy", bytes(100_000))
    reply = start("tensor")(body=file.getvalue(), kind="application/x-npz")
    assert (reply.status, "unpacks to" in reply.error) == (422, True)


def test_unknown_paths_and_methods_name_what_there_is(start: Start) -> None:
    client = start("text")
    missing, wrong = client("/v2/models"), client("/predict")
    assert (missing.status, wrong.status) == (404, 405)
    assert "POST /predict" in missing.error
    assert "POST /predict" in wrong.error
    assert wrong.headers["allow"] == "POST"


def test_it_says_what_it_serves(start: Start) -> None:
    about = start("text")("/").body
    assert about["task"] == "text-classification"
    assert about["labels"] == ["bad", "good"]
    assert [row["name"] for row in about["signature"]["inputs"]] == ["input_ids", "attention_mask"]
    assert about["served_by"].startswith("onnxruntime/")
    assert start("text")("/healthz").body == {"ok": True}
    schema = start("text")("/openapi.json").body["paths"]["/predict"]["post"]
    assert "text/plain" in schema["requestBody"]["content"]


def test_a_large_body_is_refused_whether_it_says_so_or_not(bundles: dict[str, Bundle]) -> None:
    limits = WebLimits(max_body_bytes=1000)
    with edgeml.serve(bundles["image"], limits=limits) as served:
        reply = Client(served.url)(body=bytes(100_000), kind="image/png")
        assert (reply.status, "1000 were expected" in reply.error) == (413, True)
        place = urlsplit(served.url)
        with socket.create_connection((place.hostname, place.port), timeout=30) as raw:
            head = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
            raw.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
            raw.sendall(b"7d0\r\n" + bytes(2000) + b"\r\n0\r\n\r\n")
            assert b" 413 " in raw.recv(4096).splitlines()[0]
        with socket.create_connection((place.hostname, place.port), timeout=30) as raw:
            raw.sendall(f"{head}Content-Length: 99999999999\r\n\r\n".encode())
            assert b" 413 " in raw.recv(4096).splitlines()[0]


def test_a_sender_that_never_ends_is_let_go(bundles: dict[str, Bundle]) -> None:
    with edgeml.serve(bundles["text"], limits=WebLimits(read_s=0.2)) as served:
        place = urlsplit(served.url)
        with socket.create_connection((place.hostname, place.port), timeout=30) as raw:
            head = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n"
            raw.sendall(f"{head}Content-Length: 5\r\n\r\nbad".encode())
            assert b" 408 " in raw.recv(4096).splitlines()[0]


class Held:
    """A predictor whose computations wait to be let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.entered = threading.Semaphore(0)
        self.served_by = "held/cpu/fp32/1"

    def prepare(self, item: object) -> object:
        return item

    def collate(self, prepared: list[object]) -> dict[str, object]:
        return {"text": prepared[0]}

    def run(self, feed: dict[str, object]) -> dict[str, object]:
        self.entered.release()
        assert self.go.wait(30)
        return feed

    def interpret(self, outputs: dict[str, object], *, served_by: str) -> list[Prediction]:
        return [Prediction(label=str(outputs["text"]), served_by=served_by)]

    def is_truncated(self, prepared: object) -> bool:
        return False


def serve_held(held: Held, limits: WebLimits) -> WebServer:
    form = FORMS["text-classification"]
    answerer = Answerer(predictor=held, task=held, form=form, max_items=1)  # type: ignore[arg-type]
    app = build_app(answerer, about={}, limits=limits)
    return WebServer(app, host="127.0.0.1", port=0, drain_s=limits.drain_s)


def test_a_full_queue_refuses_at_once_and_recovers() -> None:
    held = Held()
    with serve_held(held, WebLimits(workers=1, waiting=1)) as server:
        client = Client(server.url)
        with ThreadPoolExecutor(3) as senders:
            first = senders.submit(client, value={"text": "a"})
            assert held.entered.acquire(timeout=10)
            second = senders.submit(client, value={"text": "b"})
            for _ in range(200):
                if (third := client("/readyz")).status == 503:
                    break
            refused = client(value={"text": "c"})
            held.go.set()
            assert (first.result().status, second.result().status) == (200, 200)
        assert (third.status, refused.status) == (503, 503)
        assert "the queue of 2 requests is full" in refused.error
        assert refused.headers["retry-after"] == "1"
        assert client(value={"text": "d"}).body["label"] == "d"


def test_running_requests_are_answered_before_the_end() -> None:
    held = Held()
    server = serve_held(held, WebLimits())
    client = Client(server.url)
    with ThreadPoolExecutor(2) as threads:
        sent = threads.submit(client, value={"text": "late"})
        assert held.entered.acquire(timeout=10)
        stopped = threads.submit(server.stop)
        held.go.set()
        assert sent.result().body["label"] == "late"
        stopped.result(timeout=20)
    assert not server.alive
    with pytest.raises(ConnectionRefusedError):
        client("/healthz")


def test_callers_at_once_get_their_own_answers(start: Start) -> None:
    client = start("text")
    with ThreadPoolExecutor(8) as callers:
        words = ["good", "bad"] * 40
        rows = list(callers.map(lambda word: client(value={"text": word}).body["label"], words))
    assert rows == words


def test_what_cannot_be_listened_on_is_said(bundles: dict[str, Bundle], start: Start) -> None:
    taken = urlsplit(start("text").url).port
    assert taken is not None
    with pytest.raises(HostError, match=f"port {taken}"):
        edgeml.serve(bundles["text"], port=taken)
    with pytest.raises(InputError, match="the port is 70000"):
        edgeml.serve(bundles["text"], port=70_000)
    with pytest.raises(InputError, match="no address"):
        edgeml.serve(bundles["text"], host="no.such.host.invalid")
    with pytest.raises(InputError, match="workers is 0"):
        WebLimits(workers=0)


def test_scores_are_plain_json(start: Start) -> None:
    body = start("text")(value={"text": "good"}).body
    assert json.loads(json.dumps(body, allow_nan=False)) == body
