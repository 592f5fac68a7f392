"""What an export starts from: one value for every task, so that the export itself knows none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.core.signature import ModelSignature
from edgeml.data.dataset import Split
from edgeml.exporting.checks import INVARIANCE_TOLERANCE
from edgeml.tasks.predictor import Task
from edgeml.tasks.samples import Samples
from edgeml.workflows.candidates import Candidate

Indices = npt.NDArray[np.int64]


def _never_padded(samples: Samples) -> Samples | None:
    return None


@dataclass(frozen=True, kw_only=True)
class Source:
    """A model with its contract, the data that it is proven on, and how to work with both.

    Attributes:
        task_name: Such as ``image-classification``.
        task: Pre- and post-processing.
        signature: Inputs and outputs of every variant.
        preprocessing: The contract, as JSON values.
        labels: Class names in index order.
        items: The data's items.
        targets: int64 ``(samples,)``; for multi-label models bool ``(samples, classes)``.
        split: What calibrates and trains, what chooses, what reports.
        data_name: Name of the data.
        fingerprint: Hash of the data.
        foreign: Whether the data is not what the model was trained on.
        provenance: Model, data, training and versions, for the manifest.
        prepare: Items by index, prepared.
        refuse_seen: Raises DataError where prepared samples were trained on.
        make_candidates: Calibration indices and an instruction set to candidates, fp32 first.
        reference: The source model's own probabilities, with so many threads.
        encode: A golden item as bytes of a file, and the file's suffix.
        describe: Named properties of inputs in 0..1, for a drift monitor.
        files: Further files of the bundle.
        multi_label: Whether several classes may hold at once.
        padded: The same samples with more padding, or None where there is no padding.
        invariance_samples: How many samples invariance is tried on.
        invariance_tolerance: Precision to the largest difference allowed.
    """

    task_name: str
    task: Task
    signature: ModelSignature
    preprocessing: Mapping[str, Any]
    labels: tuple[str, ...]
    items: Sequence[Any] | npt.NDArray[Any]
    targets: npt.NDArray[Any]
    split: Split
    data_name: str
    fingerprint: str
    foreign: bool
    provenance: Mapping[str, Any]
    prepare: Callable[[Indices], Samples]
    refuse_seen: Callable[[Sequence[Samples]], None]
    make_candidates: Callable[[Indices, str], list[Candidate]]
    reference: Callable[[Samples, int], npt.NDArray[np.float32]]
    encode: Callable[[Any], tuple[bytes, str]]
    describe: Callable[[Samples], dict[str, npt.NDArray[Any]]]
    files: Mapping[str, bytes] = field(default_factory=dict)
    multi_label: bool = False
    padded: Callable[[Samples], Samples | None] = _never_padded
    invariance_samples: int = 24
    invariance_tolerance: Mapping[str, float] = field(
        default_factory=lambda: dict.fromkeys(("fp32", "fp16", "int8"), INVARIANCE_TOLERANCE)
    )
