"""What NVIDIA's ONNX Runtime backend refuses at load, refused here too: ours is never kinder.

A configuration that is served on this machine has to be served in NVIDIA's container as well. The
names of the C++ functions beside each check say where the rule comes from
(``onnxruntime_backend/src/onnxruntime.cc``, ``onnxruntime_utils.cc``).
"""

from __future__ import annotations

from typing import Any

import edgeml_stub

_TYPES = {
    "TYPE_BOOL": "tensor(bool)",
    "TYPE_UINT8": "tensor(uint8)",
    "TYPE_UINT16": "tensor(uint16)",
    "TYPE_UINT32": "tensor(uint32)",
    "TYPE_UINT64": "tensor(uint64)",
    "TYPE_INT8": "tensor(int8)",
    "TYPE_INT16": "tensor(int16)",
    "TYPE_INT32": "tensor(int32)",
    "TYPE_INT64": "tensor(int64)",
    "TYPE_FP16": "tensor(float16)",
    "TYPE_FP32": "tensor(float)",
    "TYPE_FP64": "tensor(double)",
    "TYPE_STRING": "tensor(string)",
}
_TRUE = ("true", "1")
_FALSE = ("false", "0")


def check_features(config: dict[str, Any]) -> None:
    """Refuse what only the C++ backend does, and what it refuses as well.

    Raises:
        ValueError: The configuration asks for it.
    """
    batching = int(config.get("max_batch_size", 0)) > 0
    for row in config["input"]:
        if row.get("allow_ragged_batch"):
            raise ValueError(f"the input '{row['name']}' is ragged; {_ELSEWHERE}")
        if row.get("optional") and batching:  # ValidateInputs
            raise ValueError(
                f"the input '{row['name']}' is optional and max_batch_size is "
                f"{config['max_batch_size']}; optional inputs need max_batch_size 0"
            )
    for key in ("batch_input", "batch_output", "sequence_batching", "model_operations"):
        if config.get(key):
            raise ValueError(f"the configuration has {key}; {_ELSEWHERE}")
    if flag(config, "share_session_between_instances"):
        raise ValueError(f"instances shall share a session; {_ELSEWHERE}: here each is a process")
    accelerators = config.get("optimization", {}).get("execution_accelerators", {})
    for row in accelerators.get("cpu_execution_accelerator", []):  # LoadModel
        raise ValueError(
            f"the accelerator '{row['name']}' is asked for on CPUs; this server's ONNX Runtime has "
            "none; remove it"
        )


def check_sides(config: dict[str, Any], inputs: list[Any], outputs: list[Any]) -> None:
    """Refuse a graph whose inputs or outputs are not the declared ones.

    Args:
        config: The model's configuration.
        inputs: What the session says of its inputs: name, type, shape.
        outputs: The same of its outputs.

    Raises:
        ValueError: A name, a type or a shape differs.
    """
    for side, tensors in (("input", inputs), ("output", outputs)):
        found = {tensor.name: tensor for tensor in tensors}
        declared = {row["name"] for row in config[side]}
        # ValidateInputs counts them; ValidateOutputs lets a graph have more than are declared.
        if not declared <= set(found) or (side == "input" and declared != set(found)):
            raise ValueError(
                f"the graph has the {side}s {sorted(found)}; the configuration declares "
                f"{sorted(declared)}; publish the bundle again"
            )
        for row in config[side]:
            _check_tensor(config, row, found[row["name"]], side=side)


def _check_tensor(config: dict[str, Any], row: dict[str, Any], tensor: Any, *, side: str) -> None:
    name, declared = row["name"], row["data_type"]
    if _TYPES.get(declared) != tensor.type:
        raise ValueError(
            f"the {side} '{name}' is {tensor.type} in the graph; the configuration declares "
            f"{declared}; publish the bundle again"
        )
    dims = row["reshape"].get("shape", []) if "reshape" in row else row["dims"]
    wanted = [int(dim) for dim in dims]
    shape = [axis if isinstance(axis, int) else -1 for axis in tensor.shape]
    batching = int(config.get("max_batch_size", 0)) > 0
    if batching and shape[:1] != [-1]:  # CompareDimsSupported
        raise ValueError(
            f"the {side} '{name}' has the shape {shape} in the graph; max_batch_size "
            f"{config['max_batch_size']} needs a first axis that is free; export with one, or "
            "declare max_batch_size 0"
        )
    if not fits(shape, [-1, *wanted] if batching else wanted, exactly=side == "output"):
        raise ValueError(
            f"the {side} '{name}' has the shape {shape} in the graph; the configuration declares "
            f"{wanted}{' behind the batch' if batching else ''}; publish the bundle again"
        )


def fits(shape: list[int], wanted: list[int], *, exactly: bool) -> bool:
    """Return whether a declared shape is one that a graph takes; outputs fit exactly.

    Args:
        shape: The graph's; -1 is a free axis.
        wanted: The configuration's, the batch with it.
        exactly: Whether a free axis has to be declared as free.
    """
    if not shape:  # a scalar, or a shape that the file does not say
        return all(dim == 1 for dim in wanted)
    return len(shape) == len(wanted) and all(
        axis == dim or (axis == -1 and not exactly) for axis, dim in zip(shape, wanted, strict=True)
    )


def flag(config: dict[str, Any], name: str) -> bool | None:
    """Return a parameter that is true or false; None where it is not set.

    Raises:
        ValueError: It is something else.
    """
    text = edgeml_stub.parameter(config, name)
    if not text:
        return None
    if text.lower() not in _TRUE + _FALSE:
        raise ValueError(f"the parameter {name} is '{text}'; true or false was expected")
    return text.lower() in _TRUE


def number(config: dict[str, Any], name: str, *, default: int) -> int:
    """Return a parameter that is a whole number.

    Raises:
        ValueError: It is something else, or negative.
    """
    text = edgeml_stub.parameter(config, name)
    if text and not text.isdecimal():
        raise ValueError(f"the parameter {name} is '{text}'; a whole number was expected")
    return int(text) if text else default


_ELSEWHERE = "only NVIDIA's backend can do that; serve it there, or leave it out"
