"""What a builder hands back: a float32 graph, the data that judges it, how it was fitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

OUTPUT = "logits"
LABELS = "labels"


@dataclass(frozen=True, kw_only=True)
class Built:
    """A member before it is written.

    Attributes:
        model: Opset 18, float32, free batch axis, one output ``logits``.
        inputs: Array per graph input by name, first axis samples.
        labels: int64 ``(samples,)``; None for a member that is judged by agreement.
        facts: How it was made and fitted, for the report.
    """

    model: onnx.ModelProto
    inputs: Mapping[str, npt.NDArray[Any]]
    labels: npt.NDArray[np.int64] | None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        counts = {len(array) for array in self.inputs.values()}
        if self.labels is not None:
            counts.add(len(self.labels))
        if len(counts) != 1:
            raise ValueError(f"the arrays have {sorted(counts)} samples; one number was expected")
        names = [node.name for node in self.model.graph.input]
        if sorted(names) != sorted(self.inputs):
            raise ValueError(f"the graph takes {names}, the data gives {list(self.inputs)}")
        outputs = [node.name for node in self.model.graph.output]
        if outputs != [OUTPUT]:
            raise ValueError(f"the graph gives {outputs}; {[OUTPUT]} was expected")
