"""The guard: what it refuses, what it passes on, and what it says when nobody is behind it."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeml.errors import HostError, InputError
from edgeml.serving.guard.checks import GuardLimits, RefusedError, check_json, depth_of
from edgeml.serving.guard.proxy import Guard

INFER = "/v2/models/m/infer"
ROW = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}


class _Echo(BaseHTTPRequestHandler):
    """Answers with what arrived; ``/v2/models/m/generate_stream`` in two chunks."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args):
        del format, args

    def do_GET(self):
        outputs = [{"name": "label", "datatype": "BYTES"}, {"name": "scores", "datatype": "FP32"}]
        self._send({"path": self.path, "outputs": outputs})

    def do_POST(self):
        body = self._body()
        if self.path.endswith("generate_stream"):
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"3\r\none\r\n")
            self.server.go_on.wait(timeout=10)
            self.wfile.write(b"3\r\ntwo\r\n0\r\n\r\n")
        elif b"hang up" in body:
            self.close_connection = True
        else:
            headers = {name.lower(): value for name, value in self.headers.items()}
            text = body.decode("latin-1")
            self._send({"body": text, "headers": headers, "chunks": self.chunks})

    def _body(self):
        self.chunks = 0
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            self.chunks += 1
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _send(self, value):
        text = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@contextlib.contextmanager
def echoing(port: int = 0) -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", port), _Echo)
    server.daemon_threads = True
    server.go_on = threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def guarding(server_port: int, **limits) -> Iterator[int]:
    guard = Guard(port=0, server_port=server_port, limits=GuardLimits(**limits))
    try:
        yield guard.port
    finally:
        guard.stop()
        guard.stop()


@pytest.fixture
def port() -> Iterator[int]:
    """A guard of small limits before an echo."""
    with echoing() as server, guarding(server.server_port, max_body_bytes=5000) as port:
        yield port


def request(body: bytes | str = b"", *headers: str, target: str = INFER, method="POST") -> bytes:
    content = body.encode() if isinstance(body, str) else body
    sized = any(line.lower().startswith(("content-length", "transfer-enc")) for line in headers)
    lines = [f"{method} {target} HTTP/1.1", "Host: here", *headers]
    lines += [] if sized else [f"Content-Length: {len(content)}"]
    return "\r\n".join([*lines, "", ""]).encode() + content


def receive(connection: socket.socket) -> tuple[int, bytes]:
    """Read one answer with a Content-Length."""
    text = b""
    while b"\r\n\r\n" not in text:
        piece = connection.recv(65536)
        assert piece, text
        text += piece
    head, _, body = text.partition(b"\r\n\r\n")
    length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
    while len(body) < length:
        body += connection.recv(65536)
    return int(head.split()[1]), body


def ask(port: int, *messages: bytes) -> tuple[int, bytes]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for message in messages:
            connection.sendall(message)
        return receive(connection)


def inputs(**changes) -> str:
    return json.dumps({"inputs": [{**ROW, **changes}]})


def classes(*names: str) -> str:
    rows = ", ".join(
        f'{{"name": "{name}", "parameters": {{"classification": 1}}}}' for name in names
    )
    return f'{{"inputs": [], "outputs": [{rows}]}}'


@pytest.mark.parametrize(
    ("message", "status", "words"),
    [
        (request(inputs(shape=[1, 2**63 - 1])), 400, "too many elements"),
        (request(inputs(shape=[2**16, 2**15])), 400, "too many elements"),
        (request(inputs(shape=[1, 0, 2**62])), 400, "too many elements"),
        (request(inputs(shape=[0, 2])), 400, "holds no sample"),
        (request(classes("scores", "label")), 400, "'label' is of strings"),
        (request(classes("l\\u0061bel")), 400, "'label' is of strings"),
        (request(inputs(shape=[1, 2000])), 400, "more elements than the body has bytes"),
        (request(inputs(shape=[1, -1])), 400, "whole numbers"),
        (request(inputs(shape=[True, 2])), 400, "whole numbers"),
        (request(inputs(shape=[1.5])), 400, "whole numbers"),
        (request(inputs(shape=None)), 400, "whole numbers"),
        (request('{"inputs": [{"sh\\u0061pe": [4294967296]}]}'), 400, "too many elements"),
        (request('{"inputs": [{"shape": [4294967296], "shape": [1]}]}'), 400, "two members"),
        (request('{"inputs": [1]}'), 400, "whole numbers"),
        (request("[" * 65 + "]" * 65), 400, "65 levels deep"),
        (request("[" * 4000), 400, "4000 levels deep"),
        (request('{"a": '), 400, "no JSON"),
        (request(inputs().encode("utf-16")), 400, "no JSON"),
        (request("x" * 5001), 413, "5001 bytes; at most 5000"),
        (request(b"", "Content-Length: 999999999999"), 413, "at most 5000"),
        (request(b"1389\r\n", "Transfer-Encoding: chunked") + b"x" * 5001, 413, "larger than"),
        (request(b"5\r\n[1,2]", "Transfer-Encoding: chunked", "Content-Length: 9"), 400, "ambig"),
        (request(b"0\r\n\r\n", "Transfer-Encoding: gzip, chunked"), 400, "ambiguous"),
        (request(b"zz\r\n", "Transfer-Encoding: chunked"), 400, "malformed"),
        (request(b"1\r\n \r\n" * 4200, "Transfer-Encoding: chunked"), 400, "chunks of 1 bytes"),
        (request(b"{}", "Content-Length: 2", "Content-Length: 2"), 400, "came twice"),
        (request(b"{}", "Content-Length: +2"), 400, "a number was expected"),
        (request(b"{}", "Inference-Header-Content-Length: -1"), 400, "a number was expected"),
        (request(b"{}", "Inference-Header-Content-Length: 3"), 400, "shorter than its JSON"),
        (request(gzip.compress(b"{}"), "Content-Encoding: gzip"), 400, "compressed"),
        (request(b"{}", "Content-Length : 2"), 400, "malformed"),
        (request(b"{}", "X: a\n b"), 400, "malformed"),
        (request(b"{}", "X: " + "a" * 70000), 431, "too long"),
        (b"nonsense\r\n\r\n", 400, "request line"),
        (request(target="/v2/repository/models/m/load"), 400, "--guard-allow-control"),
        (request(target="/v2/repository/models/m/load?/v2/models/m/infer"), 400, "not allowed"),
        (request(target="http://here/v2/models/m/infer"), 400, "is no path"),
        (request(target="/v2/systemsharedmemory/region/a/register"), 400, "not allowed"),
        (request(method="PUT", target=INFER + "/more"), 400, "not allowed"),
    ],
)
def test_refusals(port, message, status, words):
    got, answer = ask(port, message)
    assert (got, words in json.loads(answer)["error"]) == (status, True), answer


def test_the_classes_of_numbers_pass(port):
    status, answer = ask(port, request(classes("scores")))
    assert (status, json.loads(answer)["body"]) == (200, classes("scores"))


def test_classes_are_refused_while_the_server_does_not_say_what_it_has():
    with echoing() as server, guarding(server.server_port) as port:
        server.shutdown()
        server.server_close()
        status, answer = ask(port, request(classes("scores")))
    assert (status, "does not say" in json.loads(answer)["error"]) == (503, True)


def test_a_head_of_json_is_looked_at_and_the_tensors_behind_it_are_not(port):
    raw = b"[" * 1000
    head = inputs(shape=[1, 2**40], data=None).encode()
    length = f"Inference-Header-Content-Length: {len(head)}"
    assert ask(port, request(head + raw, length))[0] == 400
    head = b'{"inputs": [{"shape": [100, 10], "parameters": {"binary_data_size": 1000}}]}'
    length = f"Inference-Header-Content-Length: {len(head)}"
    status, answer = ask(port, request(head + raw, length))
    assert (status, json.loads(answer)["body"]) == (200, (head + raw).decode())


def test_a_body_arrives_in_whatever_pieces_it_was_sent(port):
    body = inputs().encode()
    whole = json.loads(ask(port, request(body))[1])["body"]
    parts = [body[:10], body[10:20], body[20:]]
    chunked = [request(b"", "Transfer-Encoding: chunked")]
    chunked += [b"%x;note=1\r\n%b\r\n" % (len(part), part) for part in parts]
    status, answer = ask(port, *chunked, b"0\r\nTrailer: dropped\r\n\r\n")
    assert (status, json.loads(answer)["body"]) == (200, whole)
    assert whole == body.decode()


def test_many_chunks_become_a_few(port):
    """Triton runs out of stack on hundreds of thousands of them."""
    head = inputs(data=None).encode()
    chunked = b"".join(b"1\r\n%b\r\n" % bytes([byte]) for byte in b"x" * 4000) + b"0\r\n\r\n"
    length = f"Inference-Header-Content-Length: {len(head)}"
    start = b"%x\r\n%b\r\n" % (len(head), head)
    status, answer = ask(port, request(start + chunked, length, "Transfer-Encoding: chunked"))
    values = json.loads(answer)
    assert (status, values["body"]) == (200, head.decode() + "x" * 4000)
    assert values["chunks"] < 5


def test_headers_of_the_request_arrive_and_those_of_the_connection_do_not(port):
    message = request("{}", "X-Mine: 7", "Connection: keep-alive", "Expect: 100-continue")
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(message[:-2])
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(message[-2:])
        headers = json.loads(receive(connection)[1])["headers"]
    assert headers["x-mine"] == "7"
    assert not {"connection", "expect"} & headers.keys()


def test_one_connection_outlives_the_server_behind_it(port):
    del port
    with echoing() as first:
        at = first.server_port
        with guarding(at) as guard:
            connection = socket.create_connection(("127.0.0.1", guard), timeout=10)
            for _ in range(2):
                connection.sendall(request(inputs()))
                assert receive(connection)[0] == 200
            connection.close()
            first.shutdown()
            first.server_close()
            status, answer = ask(guard, request("{}"))
            assert (status, "not there" in json.loads(answer)["error"]) == (503, True)
            with echoing(at):
                assert ask(guard, request(inputs()))[0] == 200


def test_a_server_that_hangs_up_is_told(port):
    status, answer = ask(port, request('"hang up"'))
    assert (status, "without an answer" in json.loads(answer)["error"]) == (502, True)
    assert ask(port, request("{}"))[0] == 200


def test_an_answer_is_passed_on_while_it_is_being_made():
    with echoing() as server, guarding(server.server_port) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(request("{}", target="/v2/models/m/generate_stream"))
            text = b""
            while b"one" not in text:
                text += connection.recv(1000)
            assert b"two" not in text
            server.go_on.set()
            while not text.endswith(b"0\r\n\r\n"):
                text += connection.recv(1000)
        assert b"two" in text


def test_control_passes_where_it_is_allowed():
    with echoing() as server, guarding(server.server_port, allow_control=True) as port:
        assert ask(port, request("{}", target="/v2/repository/models/m/load"))[0] == 200


def test_the_index_and_every_question_pass(port):
    for method, target in (("POST", "/v2/repository/index"), ("GET", "/v2/models/m/config?a=1")):
        assert ask(port, request(method=method, target=target))[0] == 200
    versioned = request("{}", target="/v2/models/m/versions/2/infer")
    assert ask(port, versioned)[0] == 200


def test_a_port_in_use_is_named():
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = holder.getsockname()[1]
        with pytest.raises(HostError, match=f"port {taken} cannot be used"):
            Guard(port=taken, server_port=1, limits=GuardLimits())


@pytest.mark.parametrize("name", ["max_body_bytes", "max_depth", "max_elements"])
def test_limits_that_are_none_are_refused(name):
    with pytest.raises(InputError, match=name):
        GuardLimits(**{name: 0})


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('[]{}\\"a:', max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text('[{"\\'), inner, max_size=3)
    ),
    max_leaves=20,
)


def deep(value) -> int:
    if isinstance(value, dict):
        return 1 + max(map(deep, value.values()), default=0)
    return 1 + max(map(deep, value), default=0) if isinstance(value, list) else 0


@given(VALUES)
def test_depth_is_what_a_parser_would_see(value):
    assert depth_of(json.dumps(value).encode()) == deep(value)


def test_large_json_is_looked_at_quickly_and_without_much_memory():
    text = json.dumps({"a": "x\\" * 500_000, "b": [[[]]] * 400_000}).encode()
    assert depth_of(text) == 4
    with pytest.raises(RefusedError, match="levels deep"):
        check_json(b"[" * 3_000_000, target=INFER, limits=GuardLimits())
