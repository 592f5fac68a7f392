"""A feed as a request of the inference protocol, and its answer as arrays: raw bytes both ways."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt
from tritonclient.grpc import service_pb2

from edgeml.core.dtypes import BY_NUMPY
from edgeml.core.signature import Tensors, TensorSpec
from edgeml.errors import SignatureError
from edgeml.serving.served import Served
from edgeml.serving.text_config import TEXT_INPUT, TRUNCATED

_TEXT_EXPECTED = "an object array (batch,) of str"


def check_feed(served: Served, tensors: Tensors) -> int:
    """Check a feed before it is sent.

    Args:
        served: The model that it is for.
        tensors: Input name to array; a string-in model takes ``text``, an object array of str.

    Returns:
        The batch size.

    Raises:
        SignatureError: It does not fit.
    """
    if not served.takes_text:
        return served.signature.check_inputs(tensors)
    texts = tensors.get(TEXT_INPUT)
    if texts is None or len(tensors) != 1:
        got = ", ".join(tensors) or "nothing"
        raise SignatureError(tensor=TEXT_INPUT, expected=f"{_TEXT_EXPECTED} alone", got=got)
    if not isinstance(texts, np.ndarray) or texts.ndim != 1 or texts.dtype != np.object_:
        got = f"a {type(texts).__name__}"
        raise SignatureError(tensor=TEXT_INPUT, expected=_TEXT_EXPECTED, got=got)
    if not len(texts) or not all(isinstance(text, str) for text in texts):
        got = "another object among them" if len(texts) else "an empty batch"
        raise SignatureError(tensor=TEXT_INPUT, expected=_TEXT_EXPECTED, got=got)
    return len(texts)


def make_request(served: Served, tensors: Tensors, *, model: str, version: str) -> Any:
    """Return the message that asks for a checked feed.

    Args:
        served: The model that it is for.
        tensors: The feed.
        model: The model's name.
        version: The version to ask for; empty for the one that the server prefers.
    """
    request = service_pb2.ModelInferRequest(model_name=model, model_version=version)
    if served.takes_text:
        rows = [text.encode() for text in tensors[TEXT_INPUT]]
        request.inputs.add(name=TEXT_INPUT, datatype="BYTES", shape=(len(rows), 1))
        # Each string goes with its length before it, as the protocol has it.
        request.raw_input_contents.append(
            b"".join(part for row in rows for part in (struct.pack("<I", len(row)), row))
        )
        return request
    for spec in served.signature.inputs:
        array = tensors[spec.name]
        shape = array.shape if len(spec.shape) > 1 else (len(array), 1)
        request.inputs.add(name=spec.name, datatype=BY_NUMPY[spec.dtype].wire, shape=shape)
        request.raw_input_contents.append(array.tobytes())
    return request


def read_response(served: Served, response: Any) -> dict[str, npt.NDArray[Any]]:
    """Return the outputs of an answer, each an array of the caller's own.

    Args:
        served: The model that answered.
        response: Its message.

    Raises:
        ValueError: An output is missing or not what the contract says; the message says what came.
    """
    rows = zip(response.outputs, response.raw_output_contents, strict=False)
    found = {row.name: (row, content) for row, content in rows}
    outputs = {}
    for spec in _outputs(served):
        row, content = found.get(spec.name, (None, b""))
        if row is None or row.datatype != BY_NUMPY[spec.dtype].wire:
            raise ValueError(f"no output '{spec.name}' of the type {spec.dtype}")
        shape = tuple(row.shape) if len(spec.shape) > 1 else (row.shape[0],)
        try:
            outputs[spec.name] = np.frombuffer(content, spec.dtype).reshape(shape).copy()
        except ValueError as exc:
            raise ValueError(
                f"{len(content)} bytes for '{spec.name}', whose shape is {shape}"
            ) from exc
    return outputs


def _outputs(served: Served) -> tuple[TensorSpec, ...]:
    outputs = served.signature.outputs
    return (*outputs, TRUNCATED) if served.takes_text else outputs
