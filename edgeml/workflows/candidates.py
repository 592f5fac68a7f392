"""A variant on its way to a verdict, and the conversions that every task shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgeml.core.signature import ModelSignature
from edgeml.core.timing import Latency
from edgeml.exporting.fusion import FusionProof
from edgeml.runtime.engine import OnnxEngine, SessionSettings
from edgeml.tasks.samples import Samples


@dataclass(frozen=True, kw_only=True)
class LabelledSamples:
    """Prepared inputs of one split, and what is right.

    Attributes:
        inputs: The samples.
        targets: int64 ``(samples,)``; for multi-label models bool ``(samples, classes)``.
    """

    inputs: Samples
    targets: npt.NDArray[Any]

    def right(self, probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """Return which samples were answered rightly; for multi-label, with every label right."""
        if self.targets.ndim == 2:
            return np.asarray(((probabilities >= 0.5) == self.targets).all(axis=1))
        return np.asarray(probabilities.argmax(axis=1) == self.targets)


@dataclass(kw_only=True, eq=False)
class Candidate:
    """One variant on its way to a verdict; fields fill up as it is measured.

    Attributes:
        name: Its name in the bundle.
        precision: ``fp32``, ``fp16`` or ``int8``.
        model: The assembled ONNX model.
        recipe: How it was made.
        tuned_for: Instruction set that it was made for, or None.
        broken: Why it cannot be used at all; its other fields then mean nothing.
        failures: Proofs that it did not pass; each a sentence.
        evidence: What was measured, by name, as JSON values.
        probabilities: float32 ``(samples, classes)`` on the selection split.
        latency: Its latency beside fp32's.
        batch_safe: Whether an answer stays the same whatever its neighbours and padding.
    """

    name: str
    precision: str
    model: onnx.ModelProto
    recipe: Mapping[str, Any]
    tuned_for: str | None = None
    broken: str = ""
    failures: list[str] = field(default_factory=list)
    evidence: dict[str, Any] = field(default_factory=dict)
    probabilities: npt.NDArray[np.float32] | None = None
    latency: Latency | None = None
    batch_safe: bool = True

    def engine(self, signature: ModelSignature, *, num_threads: int) -> OnnxEngine:
        """Open this candidate's model."""
        return OnnxEngine(
            self.model.SerializeToString(),
            settings=SessionSettings(num_threads=num_threads),
            signature=signature,
            served_by=f"onnxruntime/cpu/{self.name}",
        )

    def note_fusion(self, proof: FusionProof) -> None:
        """Keep a fusion proof as evidence, and as a failure where it is one."""
        self.evidence["fusion"] = proof.to_json()
        if not proof.ok:
            self.failures.append(
                f"only {proof.quantized} of {proof.requested} Conv/MatMul/Gemm run quantized"
            )


def attempt(candidate: Candidate, make: Callable[[], onnx.ModelProto], *, verb: str) -> bool:
    """Make a candidate's model; a conversion that fails marks it broken and costs only itself.

    Args:
        candidate: What the model is for.
        make: Makes it.
        verb: What it was being, for the reason: ``converted`` or ``quantized``.

    Returns:
        Whether it was made.
    """
    try:
        candidate.model = make()
    except Exception as exc:
        # Third-party converters raise anything, and their errors share no base.
        candidate.broken = f"it cannot be {verb} ({_first_line(exc)})"
        return False
    return True


def _first_line(exc: Exception) -> str:
    return (str(exc).strip() or type(exc).__name__).splitlines()[0][:200]
