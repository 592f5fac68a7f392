"""Rules about execution accelerators and ONNX Runtime's level of graph optimization."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edgeml.serving.lint.findings import Fault, Rule
from edgeml.serving.lint.subjects import ConfigFile

_KNOWN = {"gpu": ("tensorrt", "cuda"), "cpu": ("openvino",)}
_OF_TENSORFLOW = ("gpu_io", "auto_mixed_precision")
_PRECISIONS = ("FP32", "FP16", "BF16", "INT8")
_ALL, _LOWERED, _DISABLED = 0, (1, -1), 2
_IN_ACCELERATORS = ("optimization", "execution_accelerators")

# From onnxruntime_backend's src/onnxruntime.cc: any other stops the model from loading.
_TENSORRT = """
precision_mode max_workspace_size_bytes int8_calibration_table_name
int8_use_native_calibration_table trt_max_partition_iterations trt_min_subgraph_size
trt_dla_enable trt_dla_core trt_engine_cache_enable trt_engine_cache_path
trt_engine_cache_prefix trt_dump_subgraphs trt_force_sequential_engine_build
trt_context_memory_sharing_enable trt_layer_norm_fp32_fallback trt_timing_cache_enable
trt_timing_cache_path trt_force_timing_cache trt_detailed_build_log trt_build_heuristics_enable
trt_sparsity_enable trt_builder_optimization_level trt_auxiliary_streams trt_tactic_sources
trt_extra_plugin_lib_paths trt_profile_min_shapes trt_profile_max_shapes trt_profile_opt_shapes
trt_cuda_graph_enable trt_dump_ep_context_model trt_ep_context_file_path
trt_ep_context_embed_mode
"""


def _unknown(config: ConfigFile) -> Iterator[Fault]:
    for device, known in _KNOWN.items():
        for number, row in enumerate(_rows(config, device)):
            if row.name in known:
                continue
            whose = ", which is TensorFlow's," if row.name in _OF_TENSORFLOW else ""
            yield Fault(
                message=f"the {device.upper()} accelerator '{row.name}'{whose} is unknown to the "
                f"onnxruntime backend, and the model does not load; {' or '.join(known)} was "
                "expected; remove it",
                line=_line(config, device, number),
            )


def _tensorrt_parameters(config: ConfigFile) -> Iterator[Fault]:
    known = _TENSORRT.split()
    for number, row in _tensorrt(config):
        for key in sorted(row.parameters):
            value = row.parameters[key]
            wrong_mode = key == "precision_mode" and value not in _PRECISIONS
            if key in known and not wrong_mode:
                continue
            what = f"precision_mode {value!r}" if wrong_mode else f"the parameter '{key}'"
            inside = (*_IN_ACCELERATORS, "gpu_execution_accelerator", number)
            yield Fault(
                message=f"TensorRT has {what}, which the backend does not know, and the model does "
                "not load; a name or mode of its own was expected; correct or remove it",
                line=config.fields.line_of_key("parameters", key, *inside),
            )


def _no_cache(config: ConfigFile) -> Iterator[Fault]:
    for number, row in _tensorrt(config):
        enabled = row.parameters.get("trt_engine_cache_enable", "").lower() in ("true", "1")
        if not enabled or not row.parameters.get("trt_engine_cache_path"):
            yield Fault(
                message="TensorRT keeps no engines, so every start builds them for minutes; "
                "trt_engine_cache_enable and trt_engine_cache_path were expected; write them",
                line=_line(config, "gpu", number),
            )


def _no_profiles(config: ConfigFile) -> Iterator[Fault]:
    message = config.message
    free = message.max_batch_size > 0 or any(-1 in row.dims for row in message.input)
    for number, row in _tensorrt(config) if free else ():
        profiles = {f"trt_profile_{which}_shapes" for which in ("min", "opt", "max")}
        if missing := sorted(profiles.difference(row.parameters)):
            yield Fault(
                message=f"TensorRT has no {', '.join(missing)}, so the first request of each new "
                "shape builds an engine for minutes; all three were expected; write them",
                line=_line(config, "gpu", number),
            )


def _cpu_beside_gpu(config: ConfigFile) -> Iterator[Fault]:
    if _rows(config, "cpu") and config.may_use_gpu:
        yield Fault(
            message="cpu_execution_accelerator stands in a configuration that allows GPUs, whose "
            "instances get it too; one file a device was expected; move it to configs/cpu.pbtxt",
            line=_line(config, "cpu", 0),
        )


def _gpu_on_cpu(config: ConfigFile) -> Iterator[Fault]:
    if _rows(config, "gpu") and not config.may_use_gpu:
        yield Fault(
            message="gpu_execution_accelerator has no effect, since no instance group allows a "
            "GPU; remove it or the KIND_CPU",
            line=_line(config, "gpu", 0),
        )


def _openvino(config: ConfigFile) -> Iterator[Fault]:
    for number, row in enumerate(_rows(config, "cpu")):
        if row.name == "openvino":
            yield Fault(
                message="the accelerator openvino stops the model from loading where the server "
                "was built without it, and no export proved it; none was expected; remove it",
                line=_line(config, "cpu", number),
            )


def _disabled(config: ConfigFile) -> Iterator[Fault]:
    level = config.message.optimization.graph.level
    if config.is_onnx and level not in (_ALL, *_LOWERED):
        yield Fault(
            message=f"optimization graph level {level} disables every optimization; none (all), or "
            "1 or -1 for fewer, was expected; remove it",
            line=config.line("optimization", "graph", "level"),
        )


def _lowered(config: ConfigFile) -> Iterator[Fault]:
    level = config.message.optimization.graph.level
    if level in (*_LOWERED, _DISABLED) and any(graph.quantized for _, graph in config.graphs()):
        yield Fault(
            message=f"optimization graph level {level} with a quantized file: its integer kernels "
            "are put together at the highest level alone; no level was expected; remove it",
            line=config.line("optimization", "graph", "level"),
        )


def _rows(config: ConfigFile, device: str) -> list[Any]:
    if not config.is_onnx:
        return []
    accelerators = config.message.optimization.execution_accelerators
    return list(getattr(accelerators, f"{device}_execution_accelerator"))


def _tensorrt(config: ConfigFile) -> list[tuple[int, Any]]:
    return [row for row in enumerate(_rows(config, "gpu")) if row[1].name == "tensorrt"]


def _line(config: ConfigFile, device: str, number: int) -> int | None:
    return config.line(*_IN_ACCELERATORS, f"{device}_execution_accelerator", number)


CONFIG_RULES: tuple[Rule[ConfigFile], ...] = (
    Rule(name="accelerator-unknown", level="error", check=_unknown),
    Rule(name="tensorrt-parameter-unknown", level="error", check=_tensorrt_parameters),
    Rule(name="tensorrt-without-cache", level="warning", check=_no_cache),
    Rule(name="tensorrt-without-profiles", level="warning", check=_no_profiles),
    Rule(name="cpu-accelerator-beside-gpu", level="warning", check=_cpu_beside_gpu),
    Rule(name="gpu-accelerator-on-cpu", level="warning", check=_gpu_on_cpu),
    Rule(name="openvino-accelerator", level="warning", check=_openvino),
    Rule(name="graph-level-disables", level="error", check=_disabled),
    Rule(name="graph-level-lowered", level="warning", check=_lowered),
)
