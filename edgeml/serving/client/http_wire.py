"""The binary extension of the inference protocol over HTTP: a JSON head, then raw tensors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from edgeml.core.priority import current_priority, level_of
from edgeml.serving.client.served import Served
from edgeml.serving.client.transport import Answer
from edgeml.serving.client.wire import InRegion, Raw, outputs_of, read_outputs

HEADER_LENGTH = "Inference-Header-Content-Length"


def make_message(
    served: Served, rows: Sequence[Raw], *, timeout_s: float
) -> tuple[bytes, list[bytes]]:
    """Return the JSON head of a request, and the raw inputs that follow it.

    Args:
        served: The model that it is for.
        rows: Its inputs.
        timeout_s: Told to the server's queue where that listens.
    """
    inputs, parts = [], []
    for name, datatype, shape, content in rows:
        row = {"name": name, "datatype": datatype, "shape": list(shape)}
        inputs.append({**row, "parameters": _parameters(content)})
        if not isinstance(content, InRegion):
            parts.append(content)
    value: dict[str, Any] = {
        "inputs": inputs,
        "outputs": [
            {"name": spec.name, "parameters": {"binary_data": True}} for spec in outputs_of(served)
        ],
    }
    parameters = {}
    if served.model.takes_timeout:
        parameters["timeout"] = int(timeout_s * 1e6)
    if served.model.takes_priority:
        parameters["priority"] = level_of(current_priority())
    if parameters:
        value["parameters"] = parameters
    return json.dumps(value, separators=(",", ":")).encode(), parts


def _parameters(content: bytes | InRegion) -> dict[str, Any]:
    if not isinstance(content, InRegion):
        return {"binary_data_size": len(content)}
    return {
        "shared_memory_region": content.region,
        "shared_memory_byte_size": content.size_bytes,
        "shared_memory_offset": content.offset,
    }


def read_answer(served: Served, body: bytes, header_length: int | None) -> Answer:
    """Read the outputs behind the JSON head of an answer.

    Args:
        served: The model that answered.
        body: All that came.
        header_length: Length of the head; None where all of it is JSON.

    Raises:
        ValueError: It is not the protocol's answer, or not what the contract says.
    """
    length = len(body) if header_length is None else header_length
    try:
        header = json.loads(body[:length])
        rows, version = header["outputs"], str(header["model_version"])
        content, start = memoryview(body), length
        found = {}
        for row in rows:
            size = int(row["parameters"]["binary_data_size"])
            found[row["name"]] = (row["datatype"], row["shape"], content[start : start + size])
            start += size
    except (KeyError, TypeError, ValueError) as exc:
        raise ValueError(f"a header that is not the protocol's ({exc!r})") from exc
    return Answer(version=version, outputs=read_outputs(served, found))


def read_reason(body: bytes) -> str:
    """Return what a refusal says, in one line."""
    try:
        text = str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        text = body[:2000].decode("utf-8", "replace")
    return " ".join(text.split())
