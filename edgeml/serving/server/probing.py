"""A golden request for one model: the only sign that it is alive.

Readiness says that a model was loaded. A Python stub that was killed leaves it as it was.
"""

from __future__ import annotations

import http.client
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np

from edgeml.core.dtypes import DTYPES
from edgeml.errors import ModelNotReadyError, ServerError
from edgeml.serving.client.faults import translate_status, unreachable
from edgeml.serving.client.http_wire import HEADER_LENGTH, read_reason
from edgeml.serving.repository.samples import WARMUP

_BY_TRITON = {row.triton: np.dtype(row.numpy) for row in DTYPES}
_FLOATS = {row.wire: np.dtype(row.numpy) for row in DTYPES if row.numpy.startswith("float")}
_TEXT = "TYPE_STRING"
_EMPTY_TEXT = bytes(4)  # a text on the wire is its length and its bytes


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A request of the protocol with its binary extension, ready to be sent.

    Attributes:
        head: Its JSON.
        body: The raw inputs behind it.
        golden: Whether the inputs are a real sample; finite answers are expected then.
    """

    head: bytes
    body: bytes
    golden: bool


class DeadModelError(Exception):
    """A model answered as only a dead one does; the text says how."""


def make_probe(config: Mapping[str, Any], folder: Path) -> Probe | None:
    """Make the golden request of a model.

    Its tensors are the golden sample that was published as the model's warm-up; otherwise zeros,
    with 1 for every free axis.

    Args:
        config: The model's configuration, as its server reports it.
        folder: The model's folder in the repository.

    Returns:
        The request; None for a model that keeps state, answers in pieces, is made of other models,
        or takes a type that has no zero here.
    """
    several = config.get("model_transaction_policy", {}).get("decoupled")
    if "sequence_batching" in config or "ensemble_scheduling" in config or several:
        return None
    golden = _golden_rows(config, folder)
    rows, parts = [], []
    for row in config.get("input", []):
        batch = [1] if int(config.get("max_batch_size", 0)) else []
        sample = golden.get(row["name"])
        shape = [max(1, int(dim)) for dim in row["dims"]]
        made = sample or (shape, _zeros(row["data_type"], shape))
        if made[1] is None:
            return None
        values = {"name": row["name"], "datatype": _wire(row["data_type"])}
        size = {"binary_data_size": len(made[1])}
        rows.append({**values, "shape": [*batch, *made[0]], "parameters": size})
        parts.append(made[1])
    head = {"inputs": rows, "parameters": {"binary_data_output": True}}
    return Probe(head=json.dumps(head).encode(), body=b"".join(parts), golden=bool(golden))


def _golden_rows(config: Mapping[str, Any], folder: Path) -> dict[str, tuple[list[int], bytes]]:
    """Return shape without batch and raw values of each input, or nothing if one is missing."""
    found = {}
    rows = (config.get("model_warmup") or [{}])[0].get("inputs", {})
    for name, row in rows.items():
        shape = [int(dim) for dim in row["dims"]]
        dtype = _BY_TRITON.get(row["data_type"])
        try:
            values = (folder / WARMUP / row["input_data_file"]).read_bytes()
        except (OSError, KeyError):
            return {}
        if dtype is None or len(values) != math.prod(shape) * dtype.itemsize:
            return {}
        found[name] = (shape, values)
    return found if found.keys() == {row["name"] for row in config.get("input", [])} else {}


def _wire(data_type: str) -> str:
    return "BYTES" if data_type == _TEXT else data_type.removeprefix("TYPE_")


def _zeros(data_type: str, shape: list[int]) -> bytes | None:
    if data_type == _TEXT:
        return _EMPTY_TEXT * math.prod(shape)
    dtype = _BY_TRITON.get(data_type)
    return None if dtype is None else bytes(math.prod(shape) * dtype.itemsize)


class ProbeConnection:
    """A kept connection of its own to one model of a server on this machine.

    Args:
        url: URL of the server's HTTP endpoint.
        model: The model.
        timeout_s: Time for each answer.
    """

    def __init__(self, url: str, model: str, *, timeout_s: float) -> None:
        parts = urlsplit(url)
        self._url, self._model, self._timeout_s = url, model, timeout_s
        self._path = f"/v2/models/{quote(model, safe='')}"
        self._http = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)

    def config(self) -> dict[str, Any]:
        """Return the model's configuration.

        Raises:
            ServerError: There is no server or no such model.
        """
        return dict(self._json("/config"))

    def is_ready(self) -> bool:
        """Return whether the server says that it serves the model.

        Raises:
            ServerError: There is no server.
        """
        return self._ask("GET", "/ready")[0] == 200

    def answered(self) -> int:
        """Return how many requests the model has answered since it was loaded, of anybody.

        Raises:
            ServerError: There is no server or no such model.
        """
        rows = self._json("/stats")["model_stats"]
        return sum(int(row["inference_stats"]["success"]["count"]) for row in rows)

    def send(self, probe: Probe) -> None:
        """Send the golden request; a refusal of what is in it is an answer too.

        Raises:
            DeadModelError: The answer is one of the server for a dead model, or is not finite.
            ServerTimeoutError: There was none in time.
            ServerUnreachableError: There is no server.
            ModelNotReadyError: The model is not served.
        """
        headers = {HEADER_LENGTH: str(len(probe.head)), "Content-Type": "application/octet-stream"}
        status, body, length = self._ask("POST", "/infer", probe.head + probe.body, headers)
        if status == 200:
            if probe.golden and not _is_finite(body, length):
                raise DeadModelError("it answers its golden sample with NaN or infinity")
            return
        reason = read_reason(body)
        if status >= 500 and "healthy" in reason:
            raise DeadModelError(reason)
        error = self._error(status, reason)
        if isinstance(error, ModelNotReadyError):
            raise error

    def close(self) -> None:
        """Close the connection; the next call opens another one."""
        self._http.close()

    def _json(self, path: str) -> Any:
        status, body, _ = self._ask("GET", path)
        if status != 200:
            raise self._error(status, read_reason(body))
        try:
            return json.loads(body)
        except ValueError as exc:
            raise ServerError(f"the answer is not JSON ({exc})", url=self._url) from exc

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes, int | None]:
        """Return status, body and the length of the JSON in it, which has none where it is all."""
        try:
            self._http.request(method, self._path + path, body=body, headers=dict(headers or {}))
            answer = self._http.getresponse()
            length = answer.getheader(HEADER_LENGTH)
            return answer.status, answer.read(), None if length is None else int(length)
        except TimeoutError as exc:
            self.close()
            raise self._error(504, "") from exc
        except (OSError, http.client.HTTPException, ValueError) as exc:
            self.close()
            raise unreachable(str(exc) or type(exc).__name__, url=self._url) from exc

    def _error(self, status: int, reason: str) -> ServerError:
        return translate_status(
            status, reason, url=self._url, model=self._model, timeout_s=self._timeout_s
        )


def _is_finite(body: bytes, length: int | None) -> bool:
    """Return whether every float of an answer with binary outputs is finite."""
    if length is None:
        return True
    start = length
    for row in json.loads(body[:length]).get("outputs", []):
        size = int(row.get("parameters", {}).get("binary_data_size", 0))
        dtype = _FLOATS.get(row["datatype"])
        values = body[start : start + size]
        if dtype is not None and not bool(np.isfinite(np.frombuffer(values, dtype=dtype)).all()):
            return False
        start += size
    return True
