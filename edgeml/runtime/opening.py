"""The engines by name: which there are, which are installed here, and one way to open any."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgeml.core.predictor import Engine
from edgeml.core.signature import ModelSignature
from edgeml.errors import InputError
from edgeml.runtime.engine import OnnxEngine, SessionSettings

_NONE: Mapping[str, Any] = MappingProxyType({})


def open_runtime(
    model: Path | bytes,
    *,
    engine: str,
    settings: SessionSettings,
    signature: ModelSignature | None = None,
    served_by: str,
    options: Mapping[str, Any] = _NONE,
) -> Engine:
    """Open a model with an engine.

    Args:
        model: Path of an ONNX file, or its bytes.
        engine: Its name, one of :data:`ENGINES`.
        settings: Threads and the rest.
        signature: What the model must take and give; None reads it from the file.
        served_by: What predictions shall say.
        options: What this engine is told beyond that.

    Raises:
        InputError: There is no such engine, or it has no such option.
        MissingExtraError: The engine is not installed.
        BundleError: The engine cannot run the file, or it is not the one described.
        HostError: This machine cannot do what the options ask for.
        ProviderUnavailableError: The device asked for is not the one that would answer.
    """
    opener = _OPENERS.get(engine)
    if opener is None:
        raise InputError(
            f"there is no engine '{engine}'; {' or '.join(ENGINES)} was expected; update edgeml",
            got=engine,
        )
    return opener(model, settings, signature, served_by, options)


def installed_engines() -> tuple[str, ...]:
    """Return the engines that this installation has, the base's first."""
    return tuple(name for name in ENGINES if find_spec(name) is not None)


def _open_onnxruntime(
    model: Path | bytes,
    settings: SessionSettings,
    signature: ModelSignature | None,
    served_by: str,
    options: Mapping[str, Any],
) -> Engine:
    if options:
        name = next(iter(options))
        raise InputError(
            f"ONNX Runtime is given the option '{name}'; none is known; leave it out or update "
            "edgeml",
            got=name,
        )
    return OnnxEngine(model, settings=settings, signature=signature, served_by=served_by)


def _open_openvino(
    model: Path | bytes,
    settings: SessionSettings,
    signature: ModelSignature | None,
    served_by: str,
    options: Mapping[str, Any],
) -> Engine:
    from edgeml.runtime.openvino_engine import OpenVinoEngine

    return OpenVinoEngine(
        model, settings=settings, signature=signature, served_by=served_by, options=options
    )


_Opener = Callable[
    [Path | bytes, SessionSettings, ModelSignature | None, str, Mapping[str, Any]], Engine
]
# Named as their packages are, and as the extra that brings one.
_OPENERS: Mapping[str, _Opener] = {
    "onnxruntime": _open_onnxruntime,
    "openvino": _open_openvino,
}
ENGINES = tuple(_OPENERS)
