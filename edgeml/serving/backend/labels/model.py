"""The last step of a string-in model: probabilities to the best label, as edgeml names it."""

from __future__ import annotations

import json
from typing import Any

import edgeml_stub

edgeml_stub.add_packages()

import numpy as np
import triton_python_backend_utils as pb_utils

from edgeml.tasks.classification import ClassLabels


class TritonPythonModel:
    """One instance of the step; Triton calls its methods from one thread."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the labels from the contract."""
        config = json.loads(args["model_config"])
        edgeml_stub.check_values()
        contract = json.loads(edgeml_stub.parameter(config, "edgeml_contract"))
        self._labels = ClassLabels(names=tuple(contract["labels"]))

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer every request in its order; a bad one costs only itself."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        tensor = pb_utils.get_input_tensor_by_name(request, "probabilities")
        probabilities = tensor.as_numpy().copy()  # Triton uses that memory again
        try:
            rows = self._labels.interpret(probabilities, served_by="")
        except Exception as exc:
            return edgeml_stub.refusal(exc)
        labels = np.array([[row.label.encode()] for row in rows], dtype=np.object_)
        pairs = (("label", labels), ("scores", probabilities))
        tensors = [pb_utils.Tensor(name, array) for name, array in pairs]
        return pb_utils.InferenceResponse(output_tensors=tensors)
