"""A feed as raw bytes, and an answer's bytes as arrays: the same for gRPC and for HTTP."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from edgeml.core.dtypes import BY_NUMPY
from edgeml.core.signature import Tensors, TensorSpec
from edgeml.errors import SignatureError
from edgeml.serving.client.served import Served
from edgeml.serving.repository.text_config import TEXT_INPUT, TRUNCATED


class InRegion(NamedTuple):
    """Where an input lies in shared memory that the server knows, instead of in the request."""

    region: str
    size_bytes: int
    offset: int


# Name, type on the wire, shape, and the bytes or where they are.
Raw = tuple[str, str, tuple[int, ...], bytes | InRegion]


def check_feed(served: Served, tensors: Tensors) -> int:
    """Check a feed before it is sent.

    Args:
        served: The model that it is for.
        tensors: Input name to array; a model that takes strings or files takes ``text``, an object
            array of str, or ``encoded``, one of bytes.

    Returns:
        The batch size.

    Raises:
        SignatureError: It does not fit.
    """
    name = served.object_input
    if name is None:
        return served.signature.check_inputs(tensors)
    kind = str if name == TEXT_INPUT else bytes
    expected = f"an object array (batch,) of {kind.__name__}"
    rows = tensors.get(name)
    if rows is None or len(tensors) != 1:
        got = ", ".join(tensors) or "nothing"
        raise SignatureError(tensor=name, expected=f"{expected} alone", got=got)
    if not isinstance(rows, np.ndarray) or rows.ndim != 1 or rows.dtype != np.object_:
        raise SignatureError(tensor=name, expected=expected, got=f"a {type(rows).__name__}")
    if not len(rows) or not all(isinstance(row, kind) for row in rows):
        got = "another object among them" if len(rows) else "an empty batch"
        raise SignatureError(tensor=name, expected=expected, got=got)
    return len(rows)


def split_feed(served: Served, tensors: Tensors) -> list[Tensors]:
    """Check a feed and cut it into parts that the server takes.

    Raises:
        SignatureError: It does not fit the signature.
    """
    batch, limit = check_feed(served, tensors), served.model.max_batch_size
    if batch <= limit:
        return [tensors]
    return [
        {name: array[start : start + limit] for name, array in tensors.items()}
        for start in range(0, batch, limit)
    ]


def joined(parts: Sequence[dict[str, npt.NDArray[Any]]]) -> dict[str, npt.NDArray[Any]]:
    """Return the outputs of such parts as one feed's."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def raw_inputs(served: Served, tensors: Tensors) -> list[Raw]:
    """Return a checked feed as it goes over the wire.

    Args:
        served: The model that it is for.
        tensors: The feed.
    """
    return [
        (name, datatype, shape, array.tobytes())
        for name, datatype, shape, array in wire_arrays(served, tensors)
    ]


def wire_arrays(
    served: Served, tensors: Tensors
) -> list[tuple[str, str, tuple[int, ...], npt.NDArray[Any]]]:
    """Return a checked feed as names, types on the wire, shapes there, and arrays of the values.

    Args:
        served: The model that it is for.
        tensors: The feed; strings and files become one array, uint8 ``(bytes,)``.
    """
    name = served.object_input
    if name is not None:
        rows = [row.encode() if isinstance(row, str) else row for row in tensors[name]]
        # Each string goes with its length before it, as the protocol has it.
        packed = b"".join(part for row in rows for part in (struct.pack("<I", len(row)), row))
        return [(name, "BYTES", (len(rows), 1), np.frombuffer(packed, np.uint8))]
    made = []
    for spec in served.signature.inputs:
        array = tensors[spec.name]
        shape = array.shape if len(spec.shape) > 1 else (len(array), 1)
        made.append((spec.name, BY_NUMPY[spec.dtype].wire, shape, array))
    return made


def read_outputs(
    served: Served, found: Mapping[str, tuple[str, Sequence[int], bytes | memoryview]]
) -> dict[str, npt.NDArray[Any]]:
    """Return the outputs of an answer, each an array of the caller's own.

    Args:
        served: The model that answered.
        found: Output name to its type on the wire, its shape and its bytes.

    Raises:
        ValueError: An output is missing or not what the contract says; the message says what came.
    """
    outputs = {}
    for spec in outputs_of(served):
        datatype, came, content = found.get(spec.name, ("", (), b""))
        if datatype != BY_NUMPY[spec.dtype].wire:
            raise ValueError(f"no output '{spec.name}' of the type {spec.dtype}")
        shape = tuple(came) if len(spec.shape) > 1 else (came[0],)
        try:
            outputs[spec.name] = np.frombuffer(content, spec.dtype).reshape(shape).copy()
        except ValueError as exc:
            raise ValueError(
                f"{len(content)} bytes for '{spec.name}', whose shape is {shape}"
            ) from exc
    return outputs


def outputs_of(served: Served) -> tuple[TensorSpec, ...]:
    """Return what is read of an answer; a string-in model says besides what it cut."""
    outputs = served.signature.outputs
    return (*outputs, TRUNCATED) if served.object_input == TEXT_INPUT else outputs
