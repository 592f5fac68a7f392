"""Opens the session of a configuration: the file that it names, in the way that it says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import edgeml_declared
import edgeml_stub
import onnxruntime
import triton_python_backend_utils as pb_utils


def open_session(args: dict[str, str], config: dict[str, Any]) -> onnxruntime.InferenceSession:
    """Open the file that the configuration names, after comparing its hash with the contract's.

    Raises:
        TritonModelException: NVIDIA's backend would refuse the configuration, or the instance, the
            file or the graph is not what it says.
    """
    kind = args["model_instance_kind"]
    if kind != "CPU":
        raise pb_utils.TritonModelException(
            f"this instance was placed on {kind}; this server's ONNX Runtime has only the CPU; "
            "start it with --model-config-name=cpu, or use a server with the GPU backend"
        )
    file = config.get("default_model_filename") or "model.onnx"
    path = Path(args["model_repository"]) / args["model_version"] / file
    try:
        data = (path / "model.onnx" if path.is_dir() else path).read_bytes()
    except OSError as exc:
        raise pb_utils.TritonModelException(
            f"the artefact '{path}' cannot be read ({exc}); publish the bundle again"
        ) from exc
    check_hash(config, file, data)
    try:
        edgeml_declared.check_features(config)
        options = session_options(config)
    except ValueError as exc:
        raise pb_utils.TritonModelException(str(exc)) from exc
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as exc:
        raise pb_utils.TritonModelException(
            f"ONNX Runtime {onnxruntime.__version__} cannot open '{path}' ({exc}); publish again"
        ) from exc
    try:
        edgeml_declared.check_sides(config, session.get_inputs(), session.get_outputs())
    except ValueError as exc:
        raise pb_utils.TritonModelException(str(exc)) from exc
    return session


def check_hash(config: dict[str, Any], file: str, data: bytes) -> None:
    """Refuse a file that is not the published one; without a contract there is none to compare."""
    text = edgeml_stub.parameter(config, "edgeml_contract")
    if not text:
        pb_utils.Logger.log_warn(f"{config['name']}: no contract, '{file}' is served unchecked")
        return
    rows = json.loads(text)["variants"].values()
    expected = next((row["sha256"] for row in rows if row["file"] == file), None)
    got = hashlib.sha256(data).hexdigest()
    if got != expected:
        published = f"sha256 {expected[:12]}" if expected else "no such file"
        raise pb_utils.TritonModelException(
            f"'{file}' has the sha256 {got[:12]}; the contract has {published}; the file is "
            "damaged or foreign: publish the bundle again"
        )


def session_options(config: dict[str, Any]) -> onnxruntime.SessionOptions:
    """Return what the configuration's parameters say of a session.

    Raises:
        ValueError: A parameter is none of the values that it may have.
    """
    options = onnxruntime.SessionOptions()
    number, flag = edgeml_declared.number, edgeml_declared.flag
    options.intra_op_num_threads = number(config, "intra_op_thread_count", default=1)
    options.inter_op_num_threads = number(config, "inter_op_thread_count", default=1)
    mode = number(config, "execution_mode", default=0)
    if mode not in (0, 1):
        raise ValueError(f"the parameter execution_mode is {mode}; 0 or 1 was expected")
    modes = onnxruntime.ExecutionMode
    options.execution_mode = modes.ORT_PARALLEL if mode else modes.ORT_SEQUENTIAL
    options.graph_optimization_level = _level(config)
    arena, pattern = flag(config, "enable_mem_arena"), flag(config, "enable_mem_pattern")
    if arena is not None:
        options.enable_cpu_mem_arena = arena
    if pattern is not None:
        options.enable_mem_pattern = pattern
    allocator = "session.use_device_allocator_for_initializers"
    if text := edgeml_stub.parameter(config, allocator):
        options.add_session_config_entry(allocator, text)
    # A thread that spins takes its core from the server and from the other models.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def run_options(config: dict[str, Any]) -> onnxruntime.RunOptions | None:
    """Return what they say of each run, if anything."""
    shrinkage = "memory.enable_memory_arena_shrinkage"
    text = edgeml_stub.parameter(config, shrinkage)
    if not text:
        return None
    options = onnxruntime.RunOptions()
    options.add_run_config_entry(shrinkage, text)
    return options


def _level(config: dict[str, Any]) -> Any:
    """Translate ``optimization.graph.level`` as the C++ backend does: unset means everything."""
    level = int(config.get("optimization", {}).get("graph", {}).get("level", 0))
    levels = onnxruntime.GraphOptimizationLevel
    return {
        -1: levels.ORT_ENABLE_BASIC,
        1: levels.ORT_ENABLE_EXTENDED,
        2: levels.ORT_DISABLE_ALL,
    }.get(level, levels.ORT_ENABLE_ALL)
