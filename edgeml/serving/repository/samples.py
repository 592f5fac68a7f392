"""Golden samples as files that Triton and its tools read: warm-up, and load for perf_analyzer.

Warm-up by Triton's own random data sends bytes that are no ids of any vocabulary and floats of any
size; a model that gathers by them never becomes ready.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.core.dtypes import BY_NUMPY
from edgeml.core.signature import ModelSignature, Tensors

WARMUP = "warmup"
PERF_ANALYZER = "perf_analyzer.json"
_MOST_SAMPLES = 8


def load_of_files(name: str, files: Sequence[bytes]) -> str:
    """Return the text of perf_analyzer's ``--input-data`` for a model that takes files or texts.

    Args:
        name: Its input, one string a request.
        files: What the golden samples were made of.
    """
    # A string travels as its length and its bytes.
    packed = [struct.pack("<I", len(file)) + file for file in files[:_MOST_SAMPLES]]
    rows = [{name: _packed(value, shape=[1])} for value in packed]
    return json.dumps({"data": rows}) + "\n"


@dataclass(frozen=True, kw_only=True)
class GoldenSamples:
    """A few real samples of a model.

    Attributes:
        signature: What they fit.
        tensors: Input name to array, batch first.
    """

    signature: ModelSignature
    tensors: Tensors

    def warmup_rows(self, *, version: int, batch_sizes: tuple[int, ...]) -> list[dict[str, Any]]:
        """Return the messages ``model_warmup``, one a batch size, as values.

        Triton fills a batch with copies of one sample, whose dims are without the batch.

        Args:
            version: Names the folder of the files.
            batch_sizes: Sizes to run before the model is ready.
        """
        inputs = {
            spec.name: {
                "data_type": BY_NUMPY[spec.dtype].triton,
                "dims": list(self._first(spec.name).shape) or [1],
                "input_data_file": _file(version, number),
            }
            for number, spec in enumerate(self.signature.inputs)
        }
        return [
            {"name": f"golden-{size}", "batch_size": size, "inputs": inputs} for size in batch_sizes
        ]

    def warmup_files(self, *, version: int) -> dict[str, bytes]:
        """Return path below ``warmup/`` to raw values, one an input."""
        return {
            _file(version, number): np.ascontiguousarray(self._first(spec.name)).tobytes()
            for number, spec in enumerate(self.signature.inputs)
        }

    @property
    def needs_data(self) -> bool:
        """Whether a stranger's load generator cannot make up inputs: free axes, or ids."""
        return any(
            len(spec.symbolic) > 1 or (np.dtype(spec.dtype).kind in "iu" and spec.dtype != "uint8")
            for spec in self.signature.inputs
        )

    def perf_analyzer(self) -> str:
        """Return the text of perf_analyzer's ``--input-data``: a few samples, without the batch."""
        count = min(_MOST_SAMPLES, len(next(iter(self.tensors.values()))))
        rows = [
            {
                spec.name: _content(np.asarray(self.tensors[spec.name][number]))
                for spec in self.signature.inputs
            }
            for number in range(count)
        ]
        return json.dumps({"data": rows}) + "\n"

    def _first(self, name: str) -> npt.NDArray[Any]:
        return np.asarray(self.tensors[name][0])


def _file(version: int, number: int) -> str:
    return f"{version}/{number}.raw"


def _content(array: npt.NDArray[Any]) -> Mapping[str, Any]:
    return _packed(np.ascontiguousarray(array).tobytes(), shape=list(array.shape) or [1])


def _packed(values: bytes, *, shape: list[int]) -> Mapping[str, Any]:
    return {"content": {"b64": base64.b64encode(values).decode("ascii")}, "shape": shape}
