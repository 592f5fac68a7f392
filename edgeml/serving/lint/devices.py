"""Rules about instances, threads, and which file a device opens."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from tritonclient.grpc import model_config_pb2

from edgeml.serving.lint.findings import Fault, Rule
from edgeml.serving.lint.subjects import ConfigFile
from edgeml.serving.repository.model_configs import COMPUTE_CAPABILITIES

_CAPABILITY = re.compile(r"[1-9][0-9]*\.[0-9]")
_THREADS = "intra_op_thread_count"
_WHOLE_NUMBERS = (_THREADS, "inter_op_thread_count", "execution_mode")


def _unwritten_count(config: ConfigFile) -> Iterator[Fault]:
    if not config.is_onnx or not config.may_use_cpu:
        return
    said = "; a server starts two on a CPU for this backend; count: 1 was expected; write it"
    if not config.message.instance_group:
        yield Fault(message=f"no instance group says how many instances there are{said}")
    for number, group in enumerate(config.message.instance_group):
        if group.count < 1 and _kind(group.kind) in ("KIND_CPU", "KIND_AUTO"):
            yield Fault(
                message=f"the instance group does not say how many instances it has{said}",
                line=config.line("instance_group", number),
            )


def _auto_with_gpus(config: ConfigFile) -> Iterator[Fault]:
    yield from _groups_with_gpus(
        config,
        "KIND_AUTO",
        "where one of them is missing a server places it on the CPU without a word; no list, or "
        "KIND_GPU, was expected; change it",
    )


def _cpu_with_gpus(config: ConfigFile) -> Iterator[Fault]:
    yield from _groups_with_gpus(
        config, "KIND_CPU", "a server refuses that; no list was expected; remove it"
    )


def _groups_with_gpus(config: ConfigFile, kind: str, then: str) -> Iterator[Fault]:
    for number, group in enumerate(config.message.instance_group):
        if group.gpus and _kind(group.kind) == kind:
            gpus = ", ".join(map(str, group.gpus))
            yield Fault(
                message=f"an instance group of {kind} lists the GPUs {gpus}; {then}",
                line=config.line("instance_group", number, "gpus"),
            )


def _threads_unset(config: ConfigFile) -> Iterator[Fault]:
    if config.is_onnx and config.may_use_cpu and config.parameter(_THREADS) is None:
        yield Fault(
            message=f"the parameter {_THREADS} is not set, so each instance takes all cores; a "
            "number was expected; write it (a server with enable-global-threadpool ignores it)",
        )


def _malformed_numbers(config: ConfigFile) -> Iterator[Fault]:
    for key in _WHOLE_NUMBERS if config.is_onnx else ():
        value = config.parameter(key)
        if value is not None and not re.fullmatch(r"-?[0-9]+", value):
            yield Fault(
                message=f"the parameter {key} is {value!r}; a whole number as string_value was "
                "expected; correct it",
                line=config.fields.line_of_key("parameters", key),
            )


def _many_threads(config: ConfigFile) -> Iterator[Fault]:
    value = config.parameter(_THREADS) or ""
    if not config.is_onnx or not config.may_use_cpu or not re.fullmatch("[0-9]{1,9}", value):
        return
    instances = sum(max(1, group.count) for group in config.message.instance_group)
    cores = len(os.sched_getaffinity(0))
    if (threads := max(1, instances) * int(value)) > cores:
        yield Fault(
            message=f"the instances take {threads} threads together and this machine has {cores} "
            "cores; at most as many were expected, if it is here that they run",
            line=config.fields.line_of_key("parameters", _THREADS),
        )


def _integers_on_gpu(config: ConfigFile) -> Iterator[Fault]:
    if not config.is_onnx or not config.may_use_gpu or _tensorrt_int8(config):
        return
    message = config.message
    default = message.default_model_filename or "model.onnx"
    reached = {default: config.line("default_model_filename")}
    for key, file in config.gpu_files.items():
        reached.setdefault(file, config.fields.line_of_key("cc_model_filenames", key))
    quantized = _quantized_files(config)
    for file, line in reached.items():
        if file in quantized:
            who = "any GPU that the map lacks" if file == default else "the GPUs of the map"
            yield Fault(
                message=f"'{file}' is quantized to int8 and {who} would run it, many times slower "
                "than fp32; fp16 or fp32 was expected there; serve it from configs/cpu.pbtxt with "
                "KIND_CPU",
                line=line,
            )


def _quantized_files(config: ConfigFile) -> set[str]:
    """Return the files that are quantized by their graph, or by what the contract says of them."""
    found = {name.partition("/")[2] for name, graph in config.graphs() if graph.quantized}
    rows = (config.contract() or {}).get("variants", {}).values()
    return found | {str(row["file"]) for row in rows if row["precision"] == "int8"}


def _tensorrt_int8(config: ConfigFile) -> bool:
    accelerators = config.message.optimization.execution_accelerators.gpu_execution_accelerator
    return any(
        row.name == "tensorrt" and row.parameters.get("precision_mode") == "INT8"
        for row in accelerators
    )


def _malformed_capability(config: ConfigFile) -> Iterator[Fault]:
    for key in config.gpu_files:
        if not _CAPABILITY.fullmatch(key):
            yield Fault(
                message=f"cc_model_filenames has the key {key!r}, which equals no GPU's; a compute "
                "capability such as '8.6' was expected; correct it",
                line=config.fields.line_of_key("cc_model_filenames", key),
            )


def _unlisted_capability(config: ConfigFile) -> Iterator[Fault]:
    for key in config.gpu_files:
        if _CAPABILITY.fullmatch(key) and key not in COMPUTE_CAPABILITIES:
            yield Fault(
                message=f"cc_model_filenames has the key {key!r}; edgeml knows no GPU of it; one "
                f"of {', '.join(COMPUTE_CAPABILITIES)} was expected; correct it, or keep it if "
                "such a GPU is there",
                line=config.fields.line_of_key("cc_model_filenames", key),
            )


def _unused_map(config: ConfigFile) -> Iterator[Fault]:
    if config.gpu_files and not config.may_use_gpu:
        yield Fault(
            message="cc_model_filenames is read for GPUs alone, and no instance group allows one; "
            "remove the map or the KIND_CPU",
            line=config.line("cc_model_filenames"),
        )


def _kind(number: int) -> str:
    return str(model_config_pb2.ModelInstanceGroup.Kind.Name(number))


CONFIG_RULES: tuple[Rule[ConfigFile], ...] = (
    Rule(name="instance-count-unwritten", level="warning", check=_unwritten_count),
    Rule(name="gpus-with-auto", level="warning", check=_auto_with_gpus),
    Rule(name="gpus-with-cpu", level="error", check=_cpu_with_gpus),
    Rule(name="threads-unset", level="warning", check=_threads_unset),
    Rule(name="parameter-malformed", level="error", check=_malformed_numbers),
    Rule(name="threads-above-cores", level="note", check=_many_threads),
    Rule(name="int8-on-gpu", level="error", check=_integers_on_gpu),
    Rule(name="capability-malformed", level="error", check=_malformed_capability),
    Rule(name="capability-unlisted", level="warning", check=_unlisted_capability),
    Rule(name="capability-map-unused", level="warning", check=_unused_map),
)
