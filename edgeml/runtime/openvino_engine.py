"""OpenVINO as a second engine over the same ONNX files, on the CPU.

It checks less than ONNX Runtime does: an id beyond a table gives zeros, not an error. Integers are
computed in 32 bits and floats of 64 bits in 32; what that would change is refused here, never
rounded in silence. Golden values decide whether a variant may run here at all.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.core.signature import ModelSignature, Tensors, TensorSpec
from edgeml.errors import ClosedError, InferenceError, InputError, ProviderUnavailableError
from edgeml.runtime.engine import SessionSettings
from edgeml.runtime.matching import check_signature
from edgeml.runtime.openvino_model import (
    PRECISIONS,
    cause,
    compile_model,
    shared_tensor,
    signature_of,
)

# Wider than what is computed; values beyond 32 bits would come back as others.
_WIDE = frozenset({"int64", "uint64", "uint32"})
_NARROW = np.iinfo(np.int32)


class OpenVinoEngine:
    """An engine over one ONNX file that OpenVINO runs on the CPU.

    One call runs at a time; further threads wait for it. OpenVINO gives a model with one stream one
    graph, which serves one caller, so that more requests would wait inside it and cost more.

    Args:
        model: Path of the file, or its bytes.
        settings: Threads; what is ONNX Runtime's alone (``spinning``, ``arena``,
            ``optimised_path``) must be left as it is.
        signature: What the model must take and give; None reads it from the file, with axes named
            anew.
        served_by: What predictions shall say.
        options: ``inference_precision``: ``f32`` (default) or ``bf16``.

    Raises:
        MissingExtraError: OpenVINO is not installed (when this module is imported).
        ProviderUnavailableError: Another device than the CPU is asked for.
        InputError: An option or setting is none that OpenVINO has here.
        HostError: This machine does not compute in the precision asked for.
        BundleError: OpenVINO cannot run the file, or it is not what the signature describes.
    """

    def __init__(
        self,
        model: Path | bytes,
        *,
        settings: SessionSettings | None = None,
        signature: ModelSignature | None = None,
        served_by: str = "openvino/cpu",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        settings = settings or SessionSettings()
        precision = _checked(settings, options or {})
        name = "the model" if isinstance(model, bytes) else str(model)
        compiled = compile_model(
            model, num_threads=settings.num_threads, precision=precision, name=name
        )
        found = signature_of(compiled, signature, name=name)
        if signature is not None:
            check_signature(found, signature, path=name)
        self._signature = signature or found
        self._inputs = _places(found.inputs, self._signature.inputs)
        self._outputs = _places(found.outputs, self._signature.outputs)
        self._wide = [spec.name for spec in self._signature.inputs if spec.dtype in _WIDE]
        self._batched = _batched(self._signature)
        self._served_by = served_by
        self._request = compiled.create_infer_request()
        self._lock = threading.Lock()

    @property
    def signature(self) -> ModelSignature:
        """Inputs and outputs."""
        return self._signature

    @property
    def served_by(self) -> str:
        """Engine, device, precision and version."""
        return self._served_by

    def run(self, tensors: Tensors) -> dict[str, npt.NDArray[Any]]:
        """Run a feed; several threads may call, and take turns.

        Args:
            tensors: Input name to array, batch first.

        Returns:
            Output name to array, batch first; copies, which a later call leaves alone.

        Raises:
            SignatureError: The feed does not fit.
            ClosedError: The engine was closed.
            InferenceError: OpenVINO could not compute this feed, or would compute another.
        """
        request = self._request
        if request is None:
            raise ClosedError
        batch = self._signature.check_inputs(tensors)
        for name in self._wide:
            _check_narrow(name, tensors[name])
        try:
            # The arrays must outlive the call: the tensors only point at them.
            shared = [(place, shared_tensor(tensors[name])) for place, name in self._inputs]
            with self._lock:
                for place, tensor in shared:
                    request.set_input_tensor(place, tensor)
                request.infer()
                values = {
                    name: np.array(request.get_output_tensor(place).data)
                    for place, name in self._outputs
                }
        except Exception as exc:
            raise InferenceError(reason=cause(exc)) from exc
        for name in self._batched:
            if values[name].shape[0] != batch:
                reason = f"'{name}' is {values[name].shape} for {batch} samples"
                raise InferenceError(reason=reason)
        return values

    def close(self) -> None:
        """Release the model; calls under way finish."""
        self._request = None


def _checked(settings: SessionSettings, options: Mapping[str, Any]) -> str:
    """Return the precision, after refusing what OpenVINO does not have."""
    if settings.device != "cpu":
        raise ProviderUnavailableError(requested=settings.device, available=("cpu",))
    own = {"spinning": False, "arena": True, "optimised_path": None}
    for name, usual in own.items():
        if getattr(settings, name) != usual:
            raise InputError(
                f"'{name}' is a setting of ONNX Runtime; OpenVINO was asked for; leave it out",
                got=getattr(settings, name),
            )
    unknown = sorted(set(options) - {"inference_precision"})
    if unknown:
        raise InputError(
            f"OpenVINO is given the option '{unknown[0]}'; only inference_precision is known; "
            "leave it out or update edgeml",
            got=unknown[0],
        )
    precision = options.get("inference_precision", PRECISIONS[0])
    if precision not in PRECISIONS:
        raise InputError(
            f"inference_precision is {precision!r}; {' or '.join(PRECISIONS)} was expected",
            got=precision,
        )
    return str(precision)


def _places(
    found: tuple[TensorSpec, ...], declared: tuple[TensorSpec, ...]
) -> list[tuple[int, str]]:
    """Return where the file has each declared tensor, in the declared order."""
    places = {spec.name: place for place, spec in enumerate(found)}
    return [(places[spec.name], spec.name) for spec in declared]


def _batched(signature: ModelSignature) -> list[str]:
    """Return the outputs whose first axis is the one of the first input."""
    axis = signature.inputs[0].shape[0]
    free = isinstance(axis, str)
    return [spec.name for spec in signature.outputs if free and spec.shape[0] == axis]


def _check_narrow(name: str, array: npt.NDArray[Any]) -> None:
    if array.size and not (_NARROW.min <= array.min() and array.max() <= _NARROW.max):
        raise InferenceError(reason=f"'{name}' has values beyond 32 bits, OpenVINO's widest")
