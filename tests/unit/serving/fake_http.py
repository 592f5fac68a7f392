"""The same fake as ``fake_server`` over HTTP, with the binary extension and ways to misbehave."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from edgeml.serving.repository.config import parse_config


@dataclass
class FakeHttp:
    """Answers every image with the same probabilities, unless told otherwise."""

    config: str
    versions: list[str] = field(default_factory=lambda: ["1"])
    ready: bool = True
    refusal: tuple[int, str] | None = None
    wait: threading.Event | None = None
    hang_up: int = 0
    spoil: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    connections: int = 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeHttp

    def setup(self) -> None:
        self.fake.connections += 1
        super().setup()

    def log_message(self, format: str, *args: Any) -> None:
        del format, args

    def do_GET(self) -> None:
        if self.path.endswith("/ready"):
            self._send(200 if self.fake.ready else 400, b"")
        elif self.path.endswith("/config"):
            self._send(200, json.dumps(parse_config(self.fake.config)).encode())
        else:
            self._send(200, json.dumps({"versions": self.fake.versions}).encode())

    def do_POST(self) -> None:
        fake = self.fake
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if fake.hang_up:
            fake.hang_up -= 1
            self.close_connection = True
            return
        if fake.wait is not None:
            fake.wait.wait(timeout=10)
        if fake.refusal is not None:
            status, words = fake.refusal
            self._send(status, json.dumps({"error": words}).encode())
            return
        length = int(self.headers["Inference-Header-Content-Length"])
        header = json.loads(body[:length])
        fake.requests.append(header)
        fake.headers.append(dict(self.headers))
        (row,) = header["inputs"]
        assert len(body) - length == row["parameters"]["binary_data_size"]
        batch = row["shape"][0]
        values = np.tile(np.float32([0.25, 0.75]), (batch, 1)).tobytes()
        output = {"name": "probabilities", "datatype": "FP32", "shape": [batch, 2]}
        answer = {
            "model_version": fake.versions[-1],
            "outputs": [{**output, "parameters": {"binary_data_size": len(values)}}],
        }
        if fake.spoil == "header":
            answer = {"outputs": 3}
        if fake.spoil == "name":
            answer["outputs"][0]["name"] = "other"
        text = json.dumps(answer).encode()
        cut = 4 if fake.spoil == "bytes" else 0
        self._send(200, text + values[: len(values) - cut], length=len(text))

    def _send(self, status: int, body: bytes, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if length is not None:
            self.send_header("Inference-Header-Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)


@contextlib.contextmanager
def serving_http(fake: FakeHttp, port: int = 0) -> Iterator[str]:
    """Serve on a port of the loopback address, 0 being a free one; gives the URL."""
    handler = type("Handler", (_Handler,), {"fake": fake})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        if fake.wait is not None:
            fake.wait.set()
        server.shutdown()
        server.server_close()
        thread.join()
