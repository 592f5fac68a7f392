"""What is changed in a request: a table of structural mutations, and mutations of encoded bytes.

Each takes a seeded generator, so that a request is made again from two numbers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.robustness.drafts import HEADER_LENGTH, Draft, HttpRequest, Row

Rng = np.random.Generator
Change = Callable[[Rng, Draft], None]

_NAMES = (
    "",
    "image ",
    "IMAGE",
    "ghost",
    "a" * 5000,
    "\0",
    "../image",
    "Größe",
    "%s%n",
    "input_ids",
)
_MODELS = (
    *(
        "../tiny",
        "..",
        "tiny/../lookup",
        "../../etc/passwd",
        "tiny/versions/1/../../lookup",
        "",
        ".",
    ),
    *("ghost", "t" * 5000, "tiny\0", "tiny ", "Größe", "%2e%2e", "tiny;ls", "needs_gpu"),
)
_VERSIONS = ("2", "0", "-1", "999999999999999999999", "one", "../1", "1.0", " 1", "\0", "latest")
_TYPES = (
    *("FP32", "FP16", "BF16", "FP64", "INT8", "INT64", "UINT8", "UINT64", "BOOL", "BYTES"),
    *("", "fp32", "FLOAT", "TYPE_FP32", "X" * 1000, 7, None),
)
# No count between 2^20 and 2^40: Triton would touch as much memory, and the machine has others.
_AXES = (0, -1, 1, 2, 33, 1000, 2**20, 2**40, 2**62, 2**63 - 1, -(2**63), 2**64, 1.5, "1", None)
_ODD = (None, True, 0, -1, 2**63, 1.5, "", "text", "\ud800", [], {}, [[]], {"a": {"b": []}})
_PARAMETERS = (
    *("sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "binary_data_output"),
    *("binary_data_size", "shared_memory_region", "shared_memory_byte_size", "classification"),
    *("shared_memory_offset", "triton_enable_empty_final_response", "binary_data", "x" * 2000, ""),
)
_TEXTS = ("", "\0", "a" * 100_000, "\ud800", "中" * 1000, "\u202e", "{}", "' OR 1=1")
_FLOATS = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}


def _pick(rng: Rng, values: Any) -> Any:
    return values[int(rng.integers(len(values)))]


def _noise(rng: Rng, size: int) -> bytes:
    return rng.integers(0, 256, size, dtype=np.uint8).tobytes()


def _row(rng: Rng, draft: Draft) -> Row:
    return _pick(rng, draft.inputs)


def _rename(rng: Rng, draft: Draft) -> None:
    _row(rng, draft).name = _pick(rng, (*_NAMES, *_ODD))


def _retype(rng: Rng, draft: Draft) -> None:
    _row(rng, draft).datatype = _pick(rng, _TYPES)


def _reshape(rng: Rng, draft: Draft) -> None:
    row = _row(rng, draft)
    shape = list(row.shape)
    kind = int(rng.integers(5))
    if kind == 0 and shape:
        shape[int(rng.integers(len(shape)))] = _pick(rng, _AXES)
    elif kind == 1:
        shape.insert(int(rng.integers(len(shape) + 1)), _pick(rng, _AXES))
    elif kind == 2 and shape:
        del shape[int(rng.integers(len(shape)))]
    elif kind == 3:
        shape = shape * int(rng.integers(2, 400))
    else:
        shape = _pick(rng, (*_ODD, [shape], shape[::-1]))
    row.shape = shape


def _lengthen(rng: Rng, draft: Draft) -> None:
    row, times = _row(rng, draft), int(rng.integers(2, 60))
    row.data, row.raw = row.data * times, row.raw * times
    if rng.integers(2) and isinstance(row.shape, list) and row.shape:
        row.shape = [times * row.shape[0], *row.shape[1:]]


def _shorten(rng: Rng, draft: Draft) -> None:
    row = _row(rng, draft)
    row.data = row.data[: int(rng.integers(len(row.data) + 1))]
    row.raw = row.raw[: int(rng.integers(len(row.raw) + 1))]


def _enlarge_batch(rng: Rng, draft: Draft) -> None:
    times = int(rng.integers(2, 40))
    for row in draft.inputs:
        row.data, row.raw = row.data * times, row.raw * times
        row.shape = [times * row.shape[0], *row.shape[1:]]


def _empty_batch(rng: Rng, draft: Draft) -> None:
    axis = int(rng.integers(2))
    for row in draft.inputs:
        row.data, row.raw = [], b""
        row.shape[min(axis, len(row.shape) - 1)] = 0


def _odd_values(rng: Rng, draft: Draft) -> None:
    """Values that a type allows and a model may not: NaN, infinity, ids of no word, no picture."""
    row = _row(rng, draft)
    wire = _FLOATS.get(row.datatype)
    if wire is not None:
        values = np.frombuffer(row.raw, dtype=wire).copy()
        values[int(rng.integers(len(values)))] = _pick(rng, (np.nan, np.inf, -np.inf, 6e4))
    elif row.datatype == "INT64":
        values = np.frombuffer(row.raw, dtype="<i8").copy()
        values[int(rng.integers(len(values)))] = _pick(rng, (-1, 10**6, 2**63 - 1, -(2**63)))
    else:
        content = _noise(rng, len(row.raw))
        if row.datatype == "BYTES":
            content = len(content).to_bytes(4, "little") + content
            row.data, row.shape = [_pick(rng, _TEXTS)], [1] * len(row.shape)
        row.raw = content
        return
    row.raw, row.data = values.tobytes(), values.tolist()


def _bend_lengths(rng: Rng, draft: Draft) -> None:
    """Lie about how long the strings of a tensor are, or about anything in its bytes."""
    row = _row(rng, draft)
    raw = bytearray(row.raw)
    if len(raw) >= 4:
        raw[:4] = int(_pick(rng, (0, 1, 2**31, 2**32 - 1, len(raw), 3))).to_bytes(4, "little")
    row.raw = bytes(raw)
    if rng.integers(2):
        row.datatype = "BYTES"


def _wrong_values(rng: Rng, draft: Draft) -> None:
    row = _row(rng, draft)
    row.data = list(row.data) or [0]
    row.data[int(rng.integers(len(row.data)))] = _pick(rng, _ODD)


def _nest_values(rng: Rng, draft: Draft) -> None:
    row = _row(rng, draft)
    for _ in range(int(rng.integers(1, 100))):
        row.data = [row.data]


def _lose_input(rng: Rng, draft: Draft) -> None:
    del draft.inputs[int(rng.integers(len(draft.inputs)))]


def _repeat_input(rng: Rng, draft: Draft) -> None:
    draft.inputs += [copy.deepcopy(_row(rng, draft)) for _ in range(int(rng.integers(1, 300)))]


def _extra_input(rng: Rng, draft: Draft) -> None:
    extra = copy.deepcopy(_row(rng, draft))
    extra.name = _pick(rng, _NAMES)
    draft.inputs.append(extra)


def _rename_model(rng: Rng, draft: Draft) -> None:
    draft.model = _pick(rng, _MODELS)


def _other_version(rng: Rng, draft: Draft) -> None:
    draft.version = _pick(rng, _VERSIONS)


def _set_parameter(rng: Rng, draft: Draft) -> None:
    place = _pick(rng, (draft.parameters, _row(rng, draft).parameters))
    for _ in range(int(rng.integers(1, 4))):
        place[_pick(rng, _PARAMETERS)] = _pick(rng, (*_ODD, 1, 2**31, 2**62, "edgeml_0_region"))


def _size_lie(rng: Rng, draft: Draft) -> None:
    row = _row(rng, draft)
    lies = (0, -1, 1, len(row.raw) - 1, len(row.raw) + 1, 2**31, 2**63 - 1, 2**64, "8", 1.5, None)
    row.parameters["binary_data_size"] = _pick(rng, lies)


def _identify(rng: Rng, draft: Draft) -> None:
    draft.identity = _pick(rng, (*_TEXTS, *_ODD))


def _ask_outputs(rng: Rng, draft: Draft) -> None:
    for _ in range(int(rng.integers(1, 4))):
        counts = (0, 1, -1, 10**6, 2**62, 2**63)
        parameters = _pick(
            rng,
            (
                {},
                {"classification": _pick(rng, counts)},
                {"binary_data": _pick(rng, _ODD)},
                {"shared_memory_region": "ghost", "shared_memory_byte_size": 2**40},
            ),
        )
        name = _pick(rng, ("probabilities", "sums", "label", "ghost", "", "p" * 3000))
        draft.outputs.append({"name": name, "parameters": parameters})


STRUCTURAL: dict[str, Change] = {
    "rename": _rename,
    "retype": _retype,
    "reshape": _reshape,
    "lengthen": _lengthen,
    "shorten": _shorten,
    "enlarge_batch": _enlarge_batch,
    "empty_batch": _empty_batch,
    "odd_values": _odd_values,
    "bend_lengths": _bend_lengths,
    "wrong_values": _wrong_values,
    "nest_values": _nest_values,
    "lose_input": _lose_input,
    "repeat_input": _repeat_input,
    "extra_input": _extra_input,
    "rename_model": _rename_model,
    "other_version": _other_version,
    "set_parameter": _set_parameter,
    "size_lie": _size_lie,
    "identify": _identify,
    "ask_outputs": _ask_outputs,
}


def mutate_draft(rng: Rng, draft: Draft, *, values_only: bool) -> list[str]:
    """Change a request in one to three ways; return their names."""
    names = ("odd_values",) if values_only else tuple(STRUCTURAL)
    chosen = rng.choice(names, size=int(rng.integers(1, 4)))
    done = []
    for name in chosen.tolist():
        before = copy.deepcopy(draft)
        try:
            STRUCTURAL[name](rng, draft)
        except (TypeError, ValueError, LookupError, AttributeError):
            draft.__dict__.update(before.__dict__)  # an earlier change left nothing to change here
        else:
            done.append(name)
    return done


def mutate_http(rng: Rng, request: HttpRequest) -> tuple[str, HttpRequest]:
    """Change the bytes of an encoded request; return the change's name as well."""
    kinds = ("cut", "flip", "insert", "length", "json_length", "method", "header", "chunks")
    kinds, rare = (*kinds, "deep", "flood"), {"deep": 0.3, "flood": 0.03}
    kind = str(rng.choice(kinds, p=_shares(kinds, rare)))
    body = request.body
    if kind == "cut":
        return kind, _with(request, body=body[: int(rng.integers(len(body) + 1))])
    if kind == "flip":
        return kind, _with(request, body=flip(rng, body))
    if kind == "insert":
        at = int(rng.integers(len(body) + 1))
        return kind, _with(request, body=body[:at] + _noise(rng, 40) + body[at:])
    if kind == "length":
        lie = _pick(rng, (0, 1, len(body) - 1, len(body) + 1, 2**31, 2**63, -1, "x", "1, 2"))
        return kind, _with(request, headers={"Content-Length": lie})
    if kind == "json_length":
        lie = _pick(rng, (0, 1, len(body), len(body) + 1, 2**31, 2**63, 2**64, -1, "x", ""))
        return kind, _with(request, headers={HEADER_LENGTH: lie})
    if kind == "deep":
        levels = int(10 ** rng.uniform(2, 6))
        text = _pick(rng, (b"[" * levels, b'{"a":' * levels, b"[" * levels + b"]" * levels))
        return kind, _with(request, body=text)
    if kind == "method":
        return kind, replace(request, method=_pick(rng, ("GET", "PUT", "DELETE", "TRACE", "post")))
    if kind == "header":
        names = ("Content-Encoding", "Content-Type", "Accept-Encoding", "Expect", "X" * 4000)
        value = _pick(rng, ("gzip", "deflate", "br", "100-continue", "\x80", "y" * 70_000))
        return kind, _with(request, headers={_pick(rng, names): value})
    return kind, _in_chunks(rng, request, flood=kind == "flood")


def _in_chunks(rng: Rng, request: HttpRequest, *, flood: bool) -> HttpRequest:
    """Send the body in chunks, which end well or do not; a flood is 600,000 of them."""
    body, size = request.body + b" " * (600_000 * flood), 1 if flood else _pick(rng, (1, 7, 1000))
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    chunked = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    ends = (b"0\r\n\r\n", b"", b"zz\r\n", b"ffffffffffffffff\r\n")
    headers = tuple(pair for pair in request.headers if pair[0] != "Content-Length")
    return replace(
        request,
        headers=(*headers, ("Transfer-Encoding", "chunked")),
        body=chunked + (ends[0] if flood else _pick(rng, ends)),
    )


def mutate_message(rng: Rng, message: bytes) -> tuple[str, bytes]:
    """Change the bytes of an encoded gRPC message; return the change's name as well."""
    kind = str(rng.choice(("cut", "flip", "insert", "doubled")))
    if kind == "cut":
        return kind, message[: int(rng.integers(len(message) + 1))]
    if kind == "flip":
        return kind, flip(rng, message)
    if kind == "doubled":
        return kind, message + message
    at = int(rng.integers(len(message) + 1))
    return kind, message[:at] + _noise(rng, 12) + message[at:]


def flip(rng: Rng, text: bytes) -> bytes:
    """Replace up to eight bytes, more often near the start, where the structure is."""
    changed = bytearray(text)
    for _ in range(int(rng.integers(1, 9)) if text else 0):
        at = int(
            min(len(changed), 600) * rng.random()
            if rng.integers(2)
            else rng.random() * len(changed)
        )
        changed[at] = int(rng.integers(256))
    return bytes(changed)


def _shares(kinds: tuple[str, ...], rare: dict[str, float]) -> Any:
    weights = np.array([rare.get(kind, 1.0) for kind in kinds])
    return weights / weights.sum()


def _with(
    request: HttpRequest, *, body: bytes | None = None, headers: dict[str, Any] | None = None
) -> HttpRequest:
    """Return the request with another body, whose length is told, or with other headers."""
    changed = {"Content-Length": len(body)} if body is not None else dict(headers or {})
    kept = tuple(pair for pair in request.headers if pair[0] not in changed)
    added = tuple((name, str(value)) for name, value in changed.items())
    return replace(request, headers=(*kept, *added), body=request.body if body is None else body)
