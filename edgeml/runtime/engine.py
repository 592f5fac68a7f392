"""ONNX Runtime as an engine: explicit threads, the provider asserted, every feed checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnxruntime

from edgeml.core.dtypes import BY_RUNTIME
from edgeml.core.signature import ModelSignature, Tensors, TensorSpec
from edgeml.errors import BundleError, ClosedError, InferenceError, ProviderUnavailableError
from edgeml.runtime.matching import check_signature, first_line

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


@dataclass(frozen=True, kw_only=True)
class SessionSettings:
    """How a session runs.

    Attributes:
        num_threads: Threads of one call.
        device: ``cpu`` or ``cuda``; the one named is the one used, or an error.
        spinning: Whether idle threads keep a processor busy; faster on a machine of one's own,
            wasteful beside neighbours.
        optimised_path: Where to write the graph as ONNX Runtime will run it; None writes none.
        arena: Whether ONNX Runtime keeps freed memory for its next call; without it a process is
            smaller and a call may be slower.
    """

    num_threads: int = 1
    device: str = "cpu"
    spinning: bool = False
    optimised_path: Path | None = None
    arena: bool = True


class OnnxEngine:
    """An engine over one ONNX file.

    Args:
        model: Path of the file, or its bytes.
        settings: Threads, device and the rest.
        signature: What the model must take and give; None reads it from the file.
        served_by: What predictions shall say.

    Raises:
        ProviderUnavailableError: The device asked for is not the one that would answer.
        BundleError: The file is not a model, or not the one that the signature describes.
    """

    def __init__(
        self,
        model: Path | bytes,
        *,
        settings: SessionSettings | None = None,
        signature: ModelSignature | None = None,
        served_by: str = "onnxruntime/cpu",
    ) -> None:
        settings = settings or SessionSettings()
        name = "the model" if isinstance(model, bytes) else str(model)
        self._session = _open(model, settings, name)
        found = _signature_of(self._session, name)
        if signature is not None:
            check_signature(found, signature, path=name)
        self._signature = signature or found
        self._outputs = [spec.name for spec in self._signature.outputs]
        self._served_by = served_by

    @property
    def signature(self) -> ModelSignature:
        """Inputs and outputs."""
        return self._signature

    @property
    def served_by(self) -> str:
        """Engine, device, precision and version."""
        return self._served_by

    def run(self, tensors: Tensors) -> dict[str, npt.NDArray[Any]]:
        """Run a feed; several threads may do so at once.

        Args:
            tensors: Input name to array, batch first.

        Returns:
            Output name to array, batch first.

        Raises:
            SignatureError: The feed does not fit.
            ClosedError: The engine was closed.
            InferenceError: ONNX Runtime could not compute this feed.
        """
        session = self._session
        if session is None:
            raise ClosedError
        self._signature.check_inputs(tensors)
        try:
            values = session.run(self._outputs, dict(tensors))
        except Exception as exc:
            raise InferenceError(reason=first_line(exc)) from exc
        return dict(zip(self._outputs, values, strict=True))

    def close(self) -> None:
        """Release the session; calls under way finish."""
        self._session = None


def _open(
    model: Path | bytes, settings: SessionSettings, name: str
) -> onnxruntime.InferenceSession | None:
    wanted = _PROVIDERS.get(settings.device, settings.device)
    available = tuple(onnxruntime.get_available_providers())
    if wanted not in available:
        raise ProviderUnavailableError(requested=wanted, available=available)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.num_threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = settings.arena
    spinning = "1" if settings.spinning else "0"
    options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    if settings.optimised_path is not None:
        options.optimized_model_filepath = str(settings.optimised_path)
    try:
        source = model if isinstance(model, bytes) else str(model)
        session = onnxruntime.InferenceSession(source, options, providers=[wanted])
    except Exception as exc:
        reason = f"ONNX Runtime cannot open it ({first_line(exc)}); export it again"
        raise BundleError(path=name, reason=reason) from exc
    used = session.get_providers()
    if used[0] != wanted:
        raise ProviderUnavailableError(requested=wanted, available=tuple(used))
    session.disable_fallback()
    return session


def _signature_of(session: onnxruntime.InferenceSession | None, name: str) -> ModelSignature:
    assert session is not None

    def specs(nodes: Any) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(
                name=node.name,
                dtype=BY_RUNTIME[node.type].numpy,
                shape=tuple(
                    axis if isinstance(axis, int) else (axis or f"axis{position}")
                    for position, axis in enumerate(node.shape)
                ),
            )
            for node in nodes
        )

    try:
        return ModelSignature(
            inputs=specs(session.get_inputs()), outputs=specs(session.get_outputs())
        )
    except KeyError as exc:
        reason = f"it has a tensor of the type {exc}, which edgeml does not serve"
        raise BundleError(path=name, reason=reason) from exc
    except ValueError as exc:
        reason = f"edgeml does not serve such a model: {exc}"
        raise BundleError(path=name, reason=reason) from exc
