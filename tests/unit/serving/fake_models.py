"""A server over HTTP with one model whose state a test sets: alive, dead, hung, busy, spoilt."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

CONFIG: dict[str, Any] = {
    "name": "m",
    "max_batch_size": 8,
    "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [2]}],
    "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": [1]}],
    "instance_group": [{"kind": "KIND_CPU", "count": 2}],
}
UNHEALTHY = "Stub process 'm_0_0' is not healthy."


@dataclass
class FakeModel:
    """Answers with 0.5 unless told otherwise; loading it again sets ``state`` to ``after_load``."""

    state: str = "alive"
    after_load: str = "alive"
    config: dict[str, Any] = field(default_factory=lambda: dict(CONFIG))
    answered: int = 0
    calls: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    go_on: threading.Event = field(default_factory=threading.Event)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeModel

    def log_message(self, format: str, *args: Any) -> None:
        del format, args

    def do_GET(self) -> None:
        fake = self.fake
        if fake.state == "unloaded":
            self._send(400, {"error": "Request for unknown model: 'm' is not found"})
        elif self.path.endswith("/stats"):
            success = {"success": {"count": str(fake.answered)}}
            self._send(200, {"model_stats": [{"inference_stats": success}]})
        elif self.path.endswith("/config"):
            self._send(200, fake.config)
        else:
            self._send(200, {})

    def do_POST(self) -> None:
        fake = self.fake
        body = self.rfile.read(int(self.headers["Content-Length"]))
        what = self.path.rpartition("/")[2]
        fake.calls.append(what)
        if what == "infer":
            fake.bodies.append(body)
            self._infer()
            return
        if what == "load":
            fake.state, fake.answered = fake.after_load, 0
        self._send(200, {})

    def _infer(self) -> None:
        fake = self.fake
        if fake.state == "dead":
            self._send(500, {"error": UNHEALTHY})
        elif fake.state == "refusing":
            self._send(400, {"error": "this text is too short"})
        elif fake.state in ("hung", "busy"):
            fake.answered += fake.state == "busy"
            fake.go_on.wait(timeout=10)
            self.close_connection = True
        else:
            fake.answered += 1
            value = np.float32([np.nan if fake.state == "nan" else 0.5]).tobytes()
            row = {"name": "y", "datatype": "FP32", "shape": [1, 1]}
            head = {"outputs": [{**row, "parameters": {"binary_data_size": 4}}]}
            self._send(200, head, value)

    def _send(self, status: int, value: Any, raw: bytes = b"") -> None:
        text = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text) + len(raw)))
        if raw:
            self.send_header("Inference-Header-Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text + raw)


@contextlib.contextmanager
def serving_model(fake: FakeModel) -> Iterator[str]:
    """Serve on a free port of the loopback address; gives the URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"fake": fake}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        fake.go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()
