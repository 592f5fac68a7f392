"""What an export starts from: one value for every task, so that the export itself knows none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgeml.core.signature import ModelSignature
from edgeml.data.dataset import Split
from edgeml.exporting.answers import Answers, Reading
from edgeml.exporting.assembly import Assembly
from edgeml.exporting.checks import INVARIANCE_TOLERANCE
from edgeml.tasks.predictor import Task
from edgeml.tasks.samples import Samples

Indices = npt.NDArray[np.int64]


def _nothing_seen(parts: Sequence[Samples]) -> None:
    """Refuse nothing: of a model from elsewhere nobody knows what it was trained on."""


def _no_findings(calibration: Samples, indices: Indices) -> list[dict[str, Any]]:
    return []


def _no_properties(samples: Samples) -> dict[str, npt.NDArray[Any]]:
    return {}


@dataclass(frozen=True, kw_only=True)
class Source:
    """A model with its contract, the data that it is proven on, and how to work with both.

    Attributes:
        task_name: Such as ``image-classification``.
        task: Pre- and post-processing.
        assembly: What goes around the core; it holds the signature.
        reading: How outputs become answers.
        preprocessing: The contract, as JSON values.
        labels: Class names in index order.
        items: The data's items.
        targets: int64 ``(samples,)``; for multi-label models bool ``(samples, classes)``; None
            without labels.
        split: What calibrates and trains, what chooses, what reports.
        data_name: Name of the data.
        fingerprint: Hash of the data.
        foreign: Whether the data is not what the model was trained on.
        provenance: Model, data, training and versions, for the manifest.
        make_core: Traces or reads the float core.
        prepare: Items by index, prepared.
        refuse_seen: Raises DataError where prepared samples were trained on.
        lint: What is wrong with the calibration samples, as JSON values.
        reference: The source model's own answers, with so many threads.
        encode: A golden item as bytes of a file, and the file's suffix.
        describe: Named properties of inputs in 0..1, for a drift monitor.
        files: Further files of the bundle.
        quantized: How the source is quantized already; empty where it is not.
        synthetic: Whether the data is made up.
        notes: What the caller should know of the source; each a sentence.
        batches: Whether several samples may share a feed.
        parity_samples: How many samples are compared with the source's own answers.
        invariance_samples: How many samples invariance is tried on.
        invariance_tolerance: Precision to the largest difference allowed.
    """

    task_name: str
    task: Task
    assembly: Assembly
    reading: Reading
    preprocessing: Mapping[str, Any]
    labels: tuple[str, ...]
    items: Sequence[Any] | npt.NDArray[Any]
    targets: npt.NDArray[Any] | None
    split: Split
    data_name: str
    fingerprint: str
    foreign: bool
    provenance: Mapping[str, Any]
    make_core: Callable[[], onnx.ModelProto]
    prepare: Callable[[Indices], Samples]
    reference: Callable[[Samples, int], Answers]
    encode: Callable[[Any], tuple[bytes, str]]
    refuse_seen: Callable[[Sequence[Samples]], None] = _nothing_seen
    lint: Callable[[Samples, Indices], list[dict[str, Any]]] = _no_findings
    describe: Callable[[Samples], dict[str, npt.NDArray[Any]]] = _no_properties
    files: Mapping[str, bytes] = field(default_factory=dict)
    quantized: str = ""
    synthetic: bool = False
    notes: tuple[str, ...] = ()
    batches: bool = True
    parity_samples: int = 64
    invariance_samples: int = 24
    invariance_tolerance: Mapping[str, float] = field(
        default_factory=lambda: dict.fromkeys(
            ("fp32", "fp16", "bf16", "int8", "int4"), INVARIANCE_TOLERANCE
        )
    )

    @property
    def signature(self) -> ModelSignature:
        """Inputs and outputs of every variant."""
        return self.assembly.signature

    @property
    def multi_label(self) -> bool:
        """Whether several classes may hold at once."""
        return self.reading.multi_label
