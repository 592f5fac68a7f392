"""``config.pbtxt`` as values and as text, through Triton's own protobuf."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2

from edgeml.core.dtypes import BY_NUMPY, DTYPES
from edgeml.core.priority import PRIORITIES
from edgeml.core.signature import ModelSignature, TensorSpec
from edgeml.errors import InputError
from edgeml.serving.repository.contract import PARAMETER

Policy = Literal["required", "allowed", "forbidden"]
POLICIES: tuple[str, ...] = get_args(Policy)

DEFAULT_CONFIG = "config.pbtxt"
CPU_CONFIG = "configs/cpu.pbtxt"
CPU_CONFIG_NAME = "cpu"
LABELS = "labels.txt"
ENSEMBLE = "ensemble"
PYTHON = "python"

_HEADER = "# Written by 'edgeml publish': do not edit; change its options and publish again.\n"
_BY_TRITON = {row.triton: row for row in DTYPES}


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """What a configuration says of a model, read from a file or from a server.

    Attributes:
        name: The model's name.
        kind: ``KIND_CPU``, ``KIND_GPU``, ``KIND_AUTO`` or empty where it is left to the server.
        default_file: File that is served unless the GPU has one of its own.
        gpu_files: Compute capability to file.
        max_batch_size: Largest batch of one request; 0 means that the model does not batch.
        signature: Inputs and outputs as declared; free axes are called after their position. None
            for a python model or an ensemble, which may take strings.
        versions: Versions that the policy names; empty means the latest.
        contract_text: The parameter ``edgeml_contract``, or None.
        backend: ``onnxruntime``, ``python``, or ``ensemble`` for models that run one another.
        steps: Models of an ensemble, each with the version that it asks for; -1 is the latest.
        takes_timeout: Whether a request may shorten its time in the queue.
        takes_priority: Whether requests have one of our three priorities.
        rate_limited: Whether its instances ask the server for resources before they run.
    """

    name: str
    kind: str
    default_file: str
    gpu_files: Mapping[str, str]
    max_batch_size: int
    signature: ModelSignature | None
    versions: tuple[int, ...]
    contract_text: str | None
    backend: str = "onnxruntime"
    steps: tuple[tuple[str, int], ...] = ()
    takes_timeout: bool = False
    takes_priority: bool = False
    rate_limited: bool = False

    @property
    def device(self) -> str:
        """``cpu`` or ``gpu`` once a server resolved the kind, otherwise ``auto``.

        An ensemble has none of its own: its models have theirs.
        """
        if self.backend == ENSEMBLE:
            return ""
        return {"KIND_CPU": "cpu", "KIND_GPU": "gpu"}.get(self.kind, "auto")

    @property
    def files(self) -> tuple[str, ...]:
        """Every artefact that this configuration may open, each once; an ensemble has none."""
        if self.backend == ENSEMBLE:
            return ()
        return tuple(dict.fromkeys((self.default_file, *self.gpu_files.values())))

    @property
    def artefact(self) -> str:
        """The file that the resolved device opens; of an ensemble, the models that it runs."""
        if self.backend == ENSEMBLE:
            return " + ".join(name for name, _ in self.steps)
        mapped = set(self.gpu_files.values())
        if self.device == "gpu" and len(mapped) == 1:
            return mapped.pop()
        return self.default_file


def parse_config(text: str, *, item: str = DEFAULT_CONFIG) -> dict[str, Any]:
    """Read the text of a configuration.

    Args:
        text: Protobuf text.
        item: What is being read, for messages.

    Returns:
        Its values under the names of the file; a server's JSON has the same form.

    Raises:
        InputError: It is not a configuration.
    """
    try:
        message = text_format.Parse(text, model_config_pb2.ModelConfig())
    except (text_format.ParseError, UnicodeDecodeError) as exc:
        raise InputError(
            f"this is not a model configuration ({exc}); protobuf text of ModelConfig was "
            "expected; publish the bundle again",
            item=item,
        ) from exc
    return json_of(message)


def json_of(message: Any) -> dict[str, Any]:
    """Return a ``ModelConfig`` message as values under the names of ``config.pbtxt``."""
    values: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return values


def read_config(path: Path) -> ServedModel:
    """Read a configuration file.

    Raises:
        InputError: It cannot be read or is not a configuration that edgeml can use.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise InputError(f"the configuration cannot be read ({exc})", item=str(path)) from exc
    return describe(parse_config(text, item=str(path)))


def numpy_dtype_of(data_type: str) -> str:
    """Return the numpy name of a type as a configuration has it.

    Raises:
        ValueError: It has none.
    """
    row = _BY_TRITON.get(data_type)
    if row is None:
        raise ValueError(f"the type {data_type} is no number's")
    return row.numpy


def describe(values: Mapping[str, Any]) -> ServedModel:
    """Describe a configuration.

    Args:
        values: What :func:`parse_config` returned or a server sent.

    Raises:
        InputError: Inputs or outputs of an ONNX model are missing or have no numpy dtype.
    """
    batch = int(values.get("max_batch_size", 0))
    groups = values.get("instance_group") or [{}]
    parameter = values.get("parameters", {}).get(PARAMETER, {}).get("string_value")
    specific = values.get("version_policy", {}).get("specific", {}).get("versions", [])
    backend = str(values.get("backend") or values.get("platform") or "onnxruntime")
    rows = (*values.get("input", []), *values.get("output", []))
    strings = any(row.get("data_type") == "TYPE_STRING" for row in rows)
    any_tensors = strings or backend in (ENSEMBLE, PYTHON)
    first = "model.py" if backend == PYTHON else "model.onnx"
    steps = values.get("ensemble_scheduling", {}).get("step", [])
    batching = values.get("dynamic_batching", {})
    policy = batching.get("default_queue_policy", {})
    return ServedModel(
        name=str(values.get("name", "")),
        kind=str(groups[0].get("kind", "")),
        default_file=str(values.get("default_model_filename") or first),
        gpu_files=dict(values.get("cc_model_filenames", {})),
        max_batch_size=batch,
        signature=None if any_tensors else _signature(values, batched=batch > 0),
        versions=tuple(int(version) for version in specific),
        contract_text=parameter or None,
        backend=backend,
        steps=tuple((str(row["model_name"]), int(row.get("model_version", -1))) for row in steps),
        takes_timeout=bool(policy.get("allow_timeout_override", False)),
        # JSON has 64-bit numbers as strings.
        takes_priority=int(batching.get("priority_levels", 0)) == len(PRIORITIES),
        rate_limited=any("rate_limiter" in group for group in groups),
    )


def _signature(values: Mapping[str, Any], *, batched: bool) -> ModelSignature:
    try:
        return ModelSignature(
            inputs=tuple(_spec(row, batched=batched) for row in values.get("input", [])),
            outputs=tuple(_spec(row, batched=batched) for row in values.get("output", [])),
        )
    except (KeyError, ValueError) as exc:
        raise InputError(
            f"the model declares inputs or outputs that edgeml cannot use ({exc}); names, numeric "
            "types and dims of both were expected; publish the bundle again",
            item=str(values.get("name", "")) or None,
        ) from exc


def config_text(values: Mapping[str, Any]) -> str:
    """Return the text of a configuration, printed by protobuf.

    Args:
        values: Its values under the names of ``config.pbtxt``.
    """
    message = json_format.ParseDict(dict(values), model_config_pb2.ModelConfig())
    return _HEADER + str(text_format.MessageToString(message, as_utf8=True))


def tensor_row(spec: TensorSpec) -> dict[str, Any]:
    """Return a tensor as a configuration declares it, without its first axis.

    Raises:
        InputError: The first axis is fixed.
    """
    if not spec.shape or isinstance(spec.shape[0], int):
        raise InputError(
            f"the tensor '{spec.name}' is {spec.describe()}; a server that joins requests needs a "
            "free first axis; export with a dynamic batch"
        )
    dims = [-1 if isinstance(axis, str) else axis for axis in spec.shape[1:]]
    row: dict[str, Any] = {"name": spec.name, "data_type": BY_NUMPY[spec.dtype].triton}
    # A scalar a sample has no dims of its own, which Triton writes as one dim reshaped away.
    return row | ({"dims": dims} if dims else {"dims": [1], "reshape": {}})


def _spec(row: Mapping[str, Any], *, batched: bool) -> TensorSpec:
    scalar = "reshape" in row and not row["reshape"].get("shape")
    dims = [] if scalar else [int(axis) for axis in row["dims"]]
    axes: list[int | str] = [f"axis_{i}" if axis < 0 else axis for i, axis in enumerate(dims, 1)]
    dtype = _BY_TRITON[row["data_type"]].numpy
    return TensorSpec(
        name=row["name"], dtype=dtype, shape=("batch", *axes) if batched else tuple(axes)
    )
