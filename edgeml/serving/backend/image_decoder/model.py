"""The first step of a model that takes picture files: JPEG, PNG and others to the model's pixels.

It runs edgeml's own ``tasks/image.py``, of which a copy lies beside this file. So a server cannot
disagree with an edge device about a picture.
"""

from __future__ import annotations

import json
from typing import Any

import edgeml_stub

edgeml_stub.add_packages()

import numpy as np
import triton_python_backend_utils as pb_utils

from edgeml.errors import InputError, MissingExtraError
from edgeml.tasks.image import ImagePreprocessing


class TritonPythonModel:
    """One instance of the decoder; Triton calls its methods from one thread."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the preprocessing from the contract, or say why not."""
        config = json.loads(args["model_config"])
        edgeml_stub.check_values()
        contract = json.loads(edgeml_stub.parameter(config, "edgeml_contract"))
        self._output = config["output"][0]["name"]
        try:
            self._preprocessing = ImagePreprocessing.from_json(contract["preprocessing"])
            blank = np.zeros((1, 1, 3), dtype=np.uint8)
            self._preprocessing.prepare(blank)
        except MissingExtraError as exc:
            raise pb_utils.TritonModelException(
                "Triton's interpreter has no 'pillow'; run: edgeml triton install; in a container "
                "of your own: pip install pillow"
            ) from exc
        except InputError as exc:
            raise pb_utils.TritonModelException(
                f"the preprocessing cannot be used ({exc}); publish the bundle again"
            ) from exc
        pb_utils.Logger.log_info(
            f"{config['name']} version {args['model_version']}: NumPy {np.__version__}"
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer every request in its order; a bad one costs only itself."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        try:
            files = pb_utils.get_input_tensor_by_name(request, "encoded").as_numpy().reshape(-1)
            if not len(files):
                raise ValueError("the request holds no picture; at least one was expected")
            pixels = np.stack([self._preprocessing.prepare(bytes(file)) for file in files])
        except Exception as exc:
            return edgeml_stub.refusal(exc)
        return pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor(self._output, pixels)])
