"""The first step of a string-in model: texts to the ids that the next step takes.

It runs edgeml's own ``tasks/text.py``, of which a copy lies beside this file, on the bundle's
``tokenizer.json``. So a server cannot disagree with an edge device about a text.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import edgeml_stub

edgeml_stub.add_packages()

import numpy as np
import triton_python_backend_utils as pb_utils

from edgeml.errors import MissingExtraError
from edgeml.tasks.classification import ClassLabels
from edgeml.tasks.text import TOKENIZER, TextPreprocessing, TextTask

SHORTEST = 16


def bucket_of(length: int, *, most: int) -> int:
    """Return the length to pad to: 16, 32, 64 and so on, and ``most`` at the end.

    Requests of one length are joined by the next step's batcher. With a length for each text there
    would be nothing to join.
    """
    bucket = SHORTEST
    while bucket < length:
        bucket *= 2
    return min(bucket, most)


def read_texts(array: Any) -> list[str]:
    """Decode the strings of a request, which are bytes to Triton.

    Raises:
        ValueError: Some are not valid UTF-8.
    """
    texts = []
    for row, value in enumerate(array.reshape(-1)):
        try:
            texts.append(bytes(value).decode("utf-8"))
        except UnicodeDecodeError as exc:
            raise ValueError(
                f"text {row} of the request is not valid UTF-8 at byte {exc.start}; UTF-8 was "
                "expected; encode it so"
            ) from exc
    return texts


class TritonPythonModel:
    """One instance of the tokenizer; Triton calls its methods from one thread."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the published tokenizer, or say why not."""
        config = json.loads(args["model_config"])
        edgeml_stub.check_values()
        contract = json.loads(edgeml_stub.parameter(config, "edgeml_contract"))
        path = Path(args["model_repository"]) / args["model_version"] / TOKENIZER
        try:
            self._task = TextTask(
                TextPreprocessing.from_json(contract["preprocessing"]),
                ClassLabels(names=tuple(contract["labels"])),
                path.read_bytes(),
            )
        except MissingExtraError as exc:
            raise pb_utils.TritonModelException(
                "Triton's interpreter has no 'tokenizers'; run: edgeml triton install; in a "
                "container of your own: pip install tokenizers"
            ) from exc
        except (OSError, ValueError) as exc:
            raise pb_utils.TritonModelException(
                f"the tokenizer cannot be used ({exc}); publish the bundle again"
            ) from exc
        pb_utils.Logger.log_info(
            f"{config['name']} version {args['model_version']}: NumPy {np.__version__}"
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer every request in its order; a bad one costs only itself."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        try:
            texts = read_texts(pb_utils.get_input_tensor_by_name(request, "text").as_numpy())
            prepared = [self._task.prepare(text) for text in texts]
            longest = max(len(row.ids) for row in prepared)
            length = bucket_of(longest, most=self._task.preprocessing.max_length)
            arrays = dict(self._task.pad(prepared, length=length))
        except Exception as exc:
            return edgeml_stub.refusal(exc)
        arrays["truncated"] = np.array([[row.truncated] for row in prepared], dtype=bool)
        tensors = [pb_utils.Tensor(name, array) for name, array in arrays.items()]
        return pb_utils.InferenceResponse(output_tensors=tensors)
