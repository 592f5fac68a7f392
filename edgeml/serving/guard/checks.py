"""What a guard lets through: paths, and JSON that cannot kill the server that parses it.

Triton 2.51 aborts on a shape whose product is too large for memory, runs out of stack on JSON that
is nested very deeply, and divides by zero where the classes of an output of strings are asked for.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeml.errors import InputError

# Paths that do no more than ask a model, or the index of the repository.
_ASKING = re.compile(
    r"/v2/(models/[^/]+(/versions/[^/]+)?/(infer|generate|generate_stream)|repository/index)"
)
_INFER = re.compile(r"/v2/models/[^/]+(/versions/[^/]+)?/infer")
# A whole string; possessive, so that a long one costs no memory.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_NO_BRACKETS = bytes(sorted(set(range(256)) - set(b"[]{}")))
_SLICE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class GuardLimits:
    """What a guard refuses.

    Attributes:
        max_body_bytes: Larger bodies are refused.
        max_depth: JSON that is nested deeper is refused.
        max_elements: A tensor of as many elements or more is refused.
        allow_control: Whether models may be loaded and unloaded and shared memory registered
            through the guard. Who may load a model may run any code.
    """

    max_body_bytes: int = 64 << 20
    max_depth: int = 64
    max_elements: int = 1 << 31
    allow_control: bool = False

    def __post_init__(self) -> None:
        for name in ("max_body_bytes", "max_depth", "max_elements"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; at least 1 was expected")


class RefusedError(Exception):
    """A request that does not go on to the server.

    Attributes:
        status: Of the answer.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def check_path(method: str, target: str, limits: GuardLimits) -> None:
    """Refuse what controls the server instead of asking it.

    Args:
        method: Of the request.
        target: Its path with the query.
        limits: What is allowed.

    Raises:
        RefusedError: It is not allowed.
    """
    if not target.startswith("/"):
        raise RefusedError(400, f"the target '{target[:100]}' is no path")
    if limits.allow_control or method in ("GET", "HEAD"):
        return
    if not _ASKING.fullmatch(target.partition("?")[0]):
        raise RefusedError(
            400,
            f"{method} {target[:100]} is not allowed through this guard; inference was expected; "
            "start the server with --guard-allow-control",
        )


def check_json(text: bytes, *, target: str, limits: GuardLimits) -> list[str]:
    """Refuse JSON that the server might not survive.

    Args:
        text: The JSON of a request, without the raw tensors behind it.
        target: The path that it was sent to.
        limits: What is allowed.

    Returns:
        The outputs that are asked for as classes, which the server does not survive for strings.

    Raises:
        RefusedError: It is nested too deeply, is no JSON, or a shape is none or too large.
    """
    if not text.strip():
        return []
    found = depth_of(text)
    if found > limits.max_depth:
        raise RefusedError(400, f"the JSON is {found} levels deep; at most {limits.max_depth} pass")
    try:
        # Which of two members counts, parsers do not agree on.
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_members)
    except ValueError as exc:
        raise RefusedError(400, f"the body is no JSON ({exc})") from exc
    if not isinstance(value, dict) or not _INFER.fullmatch(target.partition("?")[0]):
        return []
    inputs, outputs = value.get("inputs"), value.get("outputs")
    for row in inputs if isinstance(inputs, list) else ():
        _check_shape(row, size=len(text), limits=limits)
    return [
        row["name"]
        for row in (outputs if isinstance(outputs, list) else ())
        if isinstance(row, dict)
        and isinstance(row.get("name"), str)
        and isinstance(row.get("parameters"), dict)
        and "classification" in row["parameters"]
    ]


def depth_of(text: bytes) -> int:
    """Return how deeply a JSON text is nested, without parsing it."""
    brackets = _STRING.sub(b"", text).translate(None, _NO_BRACKETS)
    deepest = level = 0
    for start in range(0, len(brackets), _SLICE):
        part = np.frombuffer(
            brackets, dtype=np.uint8, count=min(_SLICE, len(brackets) - start), offset=start
        )
        opening = (part == ord("[")) | (part == ord("{"))
        levels = level + np.cumsum(np.where(opening, 1, -1))
        deepest = max(deepest, int(levels.max()))
        level = int(levels[-1])
    return deepest


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("an object has two members of one name")
    return members


def _check_shape(row: Any, *, size: int, limits: GuardLimits) -> None:
    """Refuse the shape of one input: each element that it counts must be there."""
    shape = row.get("shape") if isinstance(row, dict) else None
    if not isinstance(shape, list) or not all(type(axis) is int and axis >= 0 for axis in shape):
        raise RefusedError(400, f"the shape {str(shape)[:100]} is none; whole numbers from 0 pass")
    if shape[:1] == [0]:
        # Triton 2.51 never answers such a request of a Python model, and waits for it at its end.
        raise RefusedError(400, f"the shape {str(shape)[:100]} holds no sample; at least 1 passes")
    elements = math.prod(max(axis, 1) for axis in shape)
    if elements >= limits.max_elements:
        raise RefusedError(
            400,
            f"the shape {str(shape)[:100]} has too many elements; fewer than "
            f"{limits.max_elements} pass",
        )
    if "data" in row and elements > size:
        raise RefusedError(
            400, f"the shape {str(shape)[:100]} has more elements than the body has bytes"
        )
