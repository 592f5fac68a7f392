"""Triton over HTTP with tensors as JSON text: what many write first, and a row of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np

from edgeml.core.bundle import Bundle
from edgeml.core.dtypes import BY_NUMPY, BY_WIRE
from edgeml.core.predictor import Prediction
from edgeml.core.signature import Tensors
from edgeml.errors import ServerError
from edgeml.workflows.loading import task_of
from edgeml.workflows.profiling.http_caller import HttpCaller


class JsonCaller:
    """One caller.

    Args:
        bundle: What was published: its task prepares and interprets.
        url: The server's HTTP address.
        model: The model's name there.
    """

    def __init__(self, bundle: Bundle, *, url: str, model: str) -> None:
        self.task = task_of(bundle)
        self.caller = HttpCaller(url)
        self._signature = bundle.manifest.signature
        self._path = f"/v2/models/{quote(model, safe='')}/infer"
        self._url = url

    def predict(self, items: Sequence[Any]) -> list[Prediction]:
        """Answer items in one request."""
        feed = self.task.collate([self.task.prepare(item) for item in items])
        outputs = self.read(self.send(self.write(feed)))
        return self.task.interpret(outputs, served_by="triton json")

    def write(self, feed: Tensors) -> bytes:
        """Return the request of a feed."""
        inputs = [
            {
                "name": spec.name,
                "datatype": BY_NUMPY[spec.dtype].wire,
                "shape": _on_the_wire(feed[spec.name].shape),
                "data": feed[spec.name].ravel().tolist(),
            }
            for spec in self._signature.inputs
        ]
        outputs = [
            {"name": spec.name, "parameters": {"binary_data": False}}
            for spec in self._signature.outputs
        ]
        return json.dumps({"inputs": inputs, "outputs": outputs}).encode()

    def send(self, body: bytes) -> bytes:
        """Return the contents of the server's answer.

        Raises:
            ServerError: It is an error.
        """
        status, contents = self.caller.exchange("POST", self._path, body, "application/json")
        if status != 200:
            said = contents[:120].decode("utf-8", "replace")
            raise ServerError(f"it answered {status}: {said}", url=self._url)
        return contents

    def read(self, contents: bytes) -> dict[str, Any]:
        """Return the outputs of an answer."""
        ranks = {spec.name: len(spec.shape) for spec in self._signature.outputs}
        rows = json.loads(contents)["outputs"]
        return {row["name"]: _array(row, ranks[row["name"]]) for row in rows}


def _on_the_wire(shape: Sequence[int]) -> list[int]:
    """Return a shape as Triton declares it: a tensor of one axis has a second one of size 1."""
    return [*shape, 1] if len(shape) == 1 else list(shape)


def _array(row: Mapping[str, Any], rank: int) -> Any:
    dtype = BY_WIRE[row["datatype"]].numpy
    shape = row["shape"][:1] if rank == 1 else row["shape"]
    return np.asarray(row["data"], dtype=dtype).reshape(shape)
