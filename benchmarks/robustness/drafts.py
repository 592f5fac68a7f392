"""A request before it is encoded, and its three encodings: JSON, JSON with raw tensors, gRPC.

A draft may hold what no client would send. What an encoding cannot express at all, such as a text
where gRPC has a number, is left out of that encoding.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import numpy as np
from tritonclient.grpc import service_pb2

from edgeml.core.dtypes import BY_NUMPY

HEADER_LENGTH = "Inference-Header-Content-Length"


@dataclass(kw_only=True)
class Row:
    """One input: what it says of itself, its values as JSON has them, and as raw bytes."""

    name: Any
    datatype: Any
    shape: Any
    data: list[Any]
    raw: bytes
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class Draft:
    """A request to one model."""

    model: str
    inputs: list[Row]
    version: str = ""
    identity: Any = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    outputs: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class HttpRequest:
    """The bytes of a request over HTTP."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def head(self) -> bytes:
        lines = [f"{self.method} {self.target} HTTP/1.1", "Host: localhost"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")


def draft_of(model: str, tensors: dict[str, Any]) -> Draft:
    """Return a request that its model answers."""
    return Draft(model=model, inputs=[_row(name, array) for name, array in tensors.items()])


def _row(name: str, array: Any) -> Row:
    if array.dtype == np.object_:
        values = [bytes(value) for value in array.ravel()]
        data = [value.decode("utf-8", "replace") for value in values]
        raw = b"".join(struct.pack("<I", len(value)) + value for value in values)
        datatype = "BYTES"
    else:
        data, raw = array.ravel().tolist(), np.ascontiguousarray(array).tobytes()
        datatype = BY_NUMPY[str(array.dtype)].wire
    return Row(name=name, datatype=datatype, shape=list(array.shape), data=data, raw=raw)


def to_json(draft: Draft) -> HttpRequest:
    """Encode values as JSON."""
    body = json.dumps(_head(draft, binary=False)).encode("utf-8", "surrogateescape")
    return _post(draft, body, ())


def to_binary(draft: Draft) -> HttpRequest:
    """Encode values as raw bytes behind a JSON head."""
    head = json.dumps(_head(draft, binary=True)).encode("utf-8", "surrogateescape")
    body = head + b"".join(row.raw for row in draft.inputs)
    return _post(draft, body, ((HEADER_LENGTH, str(len(head))),))


def _post(draft: Draft, body: bytes, headers: tuple[tuple[str, str], ...]) -> HttpRequest:
    # Dots and slashes stay as they are: whether they leave the model's name is the server's to say.
    target = f"/v2/models/{quote(draft.model, safe='./')}"
    if draft.version:
        target += f"/versions/{quote(draft.version, safe='./')}"
    length = ("Content-Length", str(len(body)))
    return HttpRequest(
        method="POST", target=f"{target}/infer", headers=(*headers, length), body=body
    )


def _head(draft: Draft, *, binary: bool) -> dict[str, Any]:
    rows = []
    for row in draft.inputs:
        made = {"name": row.name, "datatype": row.datatype, "shape": row.shape}
        parameters = dict(row.parameters)
        if binary:
            parameters.setdefault("binary_data_size", len(row.raw))
        else:
            made["data"] = row.data
        rows.append(made | ({"parameters": parameters} if parameters else {}))
    more = {"id": draft.identity, "parameters": draft.parameters, "outputs": draft.outputs}
    return {"inputs": rows} | {name: value for name, value in more.items() if value}


def to_grpc(draft: Draft) -> bytes:
    """Encode as a gRPC message; values go as raw bytes."""
    message = service_pb2.ModelInferRequest(model_name=_text(draft.model))
    message.model_version = _text(draft.version)
    message.id = _text(draft.identity)
    _fill(message.parameters, draft.parameters)
    for row in draft.inputs:
        made = message.inputs.add(name=_text(row.name), datatype=_text(row.datatype))
        shape = row.shape if isinstance(row.shape, list) else [row.shape]
        made.shape.extend(axis for axis in shape if _is_int64(axis))
        _fill(made.parameters, row.parameters)
        message.raw_input_contents.append(row.raw)
    for output in draft.outputs:
        wanted = message.outputs.add(name=_text(output.get("name", "")))
        _fill(wanted.parameters, output.get("parameters", {}))
    return message.SerializeToString()


def _fill(parameters: Any, values: dict[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, bool):
            parameters[_text(name)].bool_param = value
        elif _is_int64(value):
            parameters[_text(name)].int64_param = value
        elif isinstance(value, float):
            parameters[_text(name)].double_param = value
        else:
            parameters[_text(name)].string_param = _text(value)


def _is_int64(value: Any) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode("utf-8", "replace").decode("utf-8")
