"""The app under a real uvicorn, on a free port, over bundles of a kilobyte."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

import edgeml
from edgeml.core.bundle import Bundle
from tests.tensors import LOGS, TWO, make_tensor_bundle
from tests.text_bundles import make_text_bundle
from tests.unit.serving.tiny_bundle import make_tiny_bundle


@dataclass(frozen=True)
class Reply:
    status: int
    body: Any
    headers: dict[str, str]

    @property
    def error(self) -> str:
        assert set(self.body) == {"error"}
        assert "\n" not in self.body["error"]
        return str(self.body["error"])


class Client:
    """Sends requests as they are; nothing is checked or repaired."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(
        self,
        path: str = "/predict",
        *,
        body: bytes | None = None,
        kind: str | None = None,
        value: Any = None,
        method: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        place = urlsplit(self.url)
        if value is not None:
            body, kind = json.dumps(value).encode(), "application/json"
        headers = {**(headers or {}), **({} if kind is None else {"Content-Type": kind})}
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
        try:
            connection.request(method or ("GET" if body is None else "POST"), path, body, headers)
            answer = connection.getresponse()
            contents = answer.read()
            return Reply(answer.status, json.loads(contents), dict(answer.getheaders()))
        finally:
            connection.close()


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    place = tmp_path_factory.mktemp("web")
    sample = {"values": np.float32([1, 2]), "weights": np.int64([3, 4])}
    return {
        "image": make_tiny_bundle(place / "image.bundle"),
        "text": make_text_bundle(place / "text.bundle"),
        "tensor": make_tensor_bundle(place / "tensor.bundle", TWO, [sample]),
        "logs": make_tensor_bundle(place / "logs.bundle", LOGS, [{"x": np.float32([1, 2, 3])}]),
    }


@pytest.fixture(scope="session")
def start(bundles: dict[str, Bundle]) -> Iterator[Callable[[str], Client]]:
    """Serve a bundle by its kind, once a session."""
    running: dict[str, edgeml.ServedBundle] = {}

    def of(kind: str) -> Client:
        if kind not in running:
            running[kind] = edgeml.serve(bundles[kind], num_threads=1)
        return Client(running[kind].url)

    yield of
    for served in running.values():
        served.stop()
