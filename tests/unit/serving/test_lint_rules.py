"""Each rule of the linter: a repository that breaks it, and one close to it that does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from onnx import helper

from edgeml.serving.lint import RULES, Finding, lint_repository
from tests.unit.serving.lint_yard import INTEGER, Yard, parse

Change = Callable[[Yard], object]


def leave(yard: Yard) -> None:
    """Change nothing."""


@dataclass(frozen=True, kw_only=True)
class Case:
    rule: str
    bad: Change
    good: Change = leave
    file: str = "plain/config.pbtxt"
    at: str | None = None  # what stands on the line that is named


def each(change: Callable[[dict[str, Any]], object]) -> Change:
    """Change both configurations of the model."""
    return lambda yard: [change(values) for values in yard.configs]


def main(**values: Any) -> Change:
    return lambda yard: yard.main.update(values)


def cpu(**values: Any) -> Change:
    return lambda yard: yard.cpu.update(values)


def chain(**values: Any) -> Change:
    return lambda yard: yard.chain.update(values)


def without(*keys: str) -> Change:
    return lambda yard: [yard.main.pop(key) for key in keys]


def instead(path: str, contents: bytes | None) -> Change:
    return lambda yard: yard.instead.update({path: contents})


def graph(text_from: str, text_to: str, *, of: str = INTEGER, name: str = "int8.onnx") -> Change:
    assert text_from in of
    return lambda yard: yard.graphs.update({name: parse(of.replace(text_from, text_to))})


def groups(*rows: dict[str, Any]) -> Change:
    return main(instance_group=list(rows))


def parameter(key: str, value: str | None) -> Change:
    def change(values: dict[str, Any]) -> None:
        values["parameters"].pop(key, None)
        if value is not None:
            values["parameters"][key] = {"string_value": value}

    return each(change)


def accelerator(device: str, name: str, **parameters: str) -> dict[str, Any]:
    row = {"name": name, "parameters": parameters}
    return {"execution_accelerators": {f"{device}_execution_accelerator": [row]}}


def tensorrt(**parameters: str) -> Change:
    good = {
        "trt_engine_cache_enable": "true",
        "trt_engine_cache_path": "/cache",
        **{f"trt_profile_{which}_shapes": "x:1x3" for which in ("min", "opt", "max")},
    }
    merged = {key: value for key, value in (good | parameters).items() if value}
    return main(optimization=accelerator("gpu", "tensorrt", **merged))


def warm(key: str, **values: Any) -> Change:
    def change(yard: Yard) -> None:
        tensor = yard.main["model_warmup"][0]["inputs"][key]
        if values.keys() & {"random_data", "zero_data"}:
            del tensor["input_data_file"]
        tensor.update(values)

    return change


def step(number: int, **values: Any) -> Change:
    return lambda yard: yard.step[number].update(values)


def tensor(side: str, number: int, **values: Any) -> Change:
    return each(lambda config: config[side][number].update(values))


def versions(*numbers: int) -> Change:
    return main(version_policy={"specific": {"versions": list(numbers)}})


def contrib(operator: str, domain: str = "com.microsoft") -> Change:
    def change(yard: Yard) -> None:
        node = helper.make_node(operator, ["x"], ["unused"], domain=domain)
        yard.graphs["fp32.onnx"].graph.node.append(node)

    return change


def loop(yard: Yard) -> None:
    yard.step[0]["input_map"]["x"] = "z"


def other_precision(yard: Yard) -> None:
    yard.unbuilt()
    yard.main["default_model_filename"] = "int8.onnx"


CPU = "plain/configs/cpu.pbtxt"
CHAIN = "chain/config.pbtxt"
CASES = (
    Case(rule="config-missing", bad=instead("after/config.pbtxt", None), file="after"),
    Case(
        rule="config-unreadable", bad=instead(CPU, b'name: "plain"\nfoo: 1\n'), file=CPU, at="foo"
    ),
    Case(
        rule="version-folder-missing",
        bad=lambda yard: (yard.unbuilt(), yard.instead.update({"plain/v1/fp32.onnx": b"x"})),
        good=Yard.unbuilt,
    ),
    Case(
        rule="folder-not-a-version",
        bad=lambda yard: yard.folders.append("plain/latest"),
        good=lambda yard: yard.folders.extend(["plain/.1.partial-7-8", "plain/2"]),
        file="plain/latest",
    ),
    Case(rule="candidate-left", bad=instead("plain/.candidate.json", b'{"model": "other"}')),
    Case(rule="artefact-not-built", bad=Yard.unbuilt),
    Case(rule="artefacts-differ", bad=graph("[batch, 2] y", "[batch, 5] y"), file=CPU),
    Case(
        rule="opset-too-new",
        bad=graph('"": 18', '"": 22'),
        good=graph('"": 18', '"": 21'),
        file=CPU,
    ),
    Case(
        rule="ir-version-too-new",
        bad=graph("ir_version: 10", "ir_version: 11"),
        good=graph("ir_version: 10", "ir_version: 8"),
        file=CPU,
    ),
    Case(
        rule="contrib-operator-unknown",
        bad=contrib("GatedDeltaNet"),
        good=contrib("SkipLayerNormalization"),
    ),
    Case(
        rule="operator-domain-unknown",
        bad=contrib("Own", "org.example"),
        good=lambda yard: (
            contrib("Own", "org.example")(yard),
            main(model_operations={"op_library_filename": ["own.so"]})(yard),
        ),
    ),
    Case(rule="name-differs", bad=main(name="other"), good=without("name"), at="other"),
    Case(rule="backend-missing", bad=without("backend"), good=main(platform="onnxruntime_onnx")),
    Case(rule="version-not-there", bad=versions(1, 3), at="version_policy"),
    Case(
        rule="artefact-missing",
        bad=instead("plain/1/fp16.onnx", None),
        good=lambda yard: (yard.main.pop("cc_model_filenames"), yard.graphs),
        at="8.0",
    ),
    Case(
        rule="artefact-unreadable",
        bad=instead("plain/1/fp32.onnx", b"\xff\xff not onnx"),
        at="fp32.onnx",
    ),
    Case(rule="sides-undeclared", bad=without("output")),
    Case(rule="tensor-unknown", bad=tensor("output", 0, name="scores"), at="scores"),
    Case(rule="input-undeclared", bad=lambda yard: yard.main["input"].pop(), at="input"),
    Case(
        rule="output-undeclared",
        bad=graph("(float[batch, 2] y)", "(float[batch, 2] y, float[batch, 2] product)"),
        file=CPU,
        at="output",
    ),
    Case(rule="tensor-dtype", bad=tensor("input", 1, data_type="TYPE_INT32"), at="TYPE_INT32"),
    Case(
        rule="tensor-dims",
        bad=tensor("input", 0, dims=[4]),
        good=tensor("input", 1, dims=[128]),
        at="dims: 4",
    ),
    Case(
        rule="tensor-dims",
        bad=graph("float[batch, 2] y", "float[batch, width] y"),
        file=CPU,
        at="dims: 2",
    ),
    Case(
        rule="batch-axis-fixed",
        bad=graph("float[batch, 3] x", "float[1, 3] x"),
        file=CPU,
        at="x",
    ),
    Case(
        rule="dynamic-batching-missing",
        bad=without("dynamic_batching"),
        good=lambda yard: (without("dynamic_batching")(yard), main(max_batch_size=1)(yard)),
        at="max_batch_size",
    ),
    Case(
        rule="strings-joined",
        bad=lambda yard: yard.after["input"][0].update(data_type="TYPE_STRING"),
        good=lambda yard: (
            yard.after["input"][0].update(data_type="TYPE_STRING"),
            yard.after.pop("dynamic_batching"),
        ),
        file="after/config.pbtxt",
        at="dynamic_batching",
    ),
    Case(
        rule="preferred-batch-size",
        bad=main(dynamic_batching={"preferred_batch_size": [4]}),
        good=lambda yard: (
            main(dynamic_batching={"preferred_batch_size": [4]})(yard),
            tensorrt()(yard),
        ),
        at="preferred_batch_size",
    ),
    Case(
        rule="queue-policy-on-cpu",
        bad=cpu(dynamic_batching={"default_queue_policy": {"max_queue_size": 9}}),
        good=main(dynamic_batching={"default_queue_policy": {"max_queue_size": 9}}),
        file=CPU,
        at="default_queue_policy",
    ),
    Case(
        rule="queue-unbounded",
        bad=leave,
        good=lambda yard: [
            row.update(dynamic_batching={"default_queue_policy": {"max_queue_size": 9}})
            for row in (*yard.configs, yard.after)
        ],
        at="dynamic_batching",
    ),
    Case(
        rule="cache-of-randomised",
        bad=lambda yard: (
            main(response_cache={"enable": True})(yard),
            parameter("randomised", "true")(yard),
        ),
        good=main(response_cache={"enable": True}),
        at="response_cache",
    ),
    Case(
        rule="cache-needs-server",
        bad=main(response_cache={"enable": True}),
        good=main(response_cache={"enable": False}),
        at="response_cache",
    ),
    Case(
        rule="rate-limit-needs-server",
        bad=groups(
            {
                "kind": "KIND_CPU",
                "count": 1,
                "rate_limiter": {"resources": [{"name": "memory", "count": 1}]},
            }
        ),
        good=groups({"kind": "KIND_CPU", "count": 1}),
        at="rate_limiter",
    ),
    Case(
        rule="rate-limit-of-nothing",
        bad=groups({"kind": "KIND_CPU", "count": 1, "rate_limiter": {"priority": 2}}),
        good=groups(
            {
                "kind": "KIND_CPU",
                "count": 1,
                "rate_limiter": {"resources": [{"name": "memory", "count": 1}]},
            }
        ),
        at="rate_limiter",
    ),
    Case(
        rule="instance-count-unwritten",
        bad=groups({"kind": "KIND_AUTO"}),
        good=groups({"kind": "KIND_GPU"}),
        at="instance_group",
    ),
    Case(
        rule="gpus-with-auto",
        bad=groups({"count": 1, "gpus": [0, 1]}),
        good=groups({"kind": "KIND_GPU", "count": 1, "gpus": [0, 1]}),
        at="gpus: 0",
    ),
    Case(
        rule="gpus-with-cpu",
        bad=cpu(instance_group=[{"kind": "KIND_CPU", "count": 1, "gpus": [0]}]),
        file=CPU,
        at="gpus",
    ),
    Case(rule="threads-unset", bad=parameter("intra_op_thread_count", None)),
    Case(
        rule="parameter-malformed",
        bad=parameter("inter_op_thread_count", "two"),
        good=parameter("execution_mode", "1"),
        at="inter_op_thread_count",
    ),
    Case(
        rule="threads-above-cores",
        bad=parameter("intra_op_thread_count", "100000"),
        at="intra_op_thread_count",
    ),
    Case(
        rule="int8-on-gpu",
        bad=main(cc_model_filenames={"8.0": "int8.onnx"}),
        good=lambda yard: (
            main(default_model_filename="int8.onnx")(yard),
            tensorrt(precision_mode="INT8")(yard),
        ),
        at="8.0",
    ),
    Case(rule="int8-on-gpu", bad=main(default_model_filename="int8.onnx"), at="int8.onnx"),
    Case(rule="int8-on-gpu", bad=other_precision, good=Yard.unbuilt, at="int8.onnx"),
    Case(rule="capability-malformed", bad=main(cc_model_filenames={"8": "fp16.onnx"}), at='"8"'),
    Case(
        rule="capability-malformed",
        bad=main(cc_model_filenames={"sm_80": "fp16.onnx"}),
        at="sm_80",
    ),
    Case(rule="capability-unlisted", bad=main(cc_model_filenames={"8.4": "fp16.onnx"}), at="8.4"),
    Case(
        rule="capability-map-unused",
        bad=cpu(cc_model_filenames={"8.0": "fp16.onnx"}),
        file=CPU,
        at="cc_model_filenames",
    ),
    Case(
        rule="accelerator-unknown",
        bad=main(optimization=accelerator("gpu", "gpu_io")),
        good=main(optimization=accelerator("gpu", "cuda")),
        at="gpu_execution_accelerator",
    ),
    Case(
        rule="accelerator-unknown",
        bad=cpu(optimization=accelerator("cpu", "auto_mixed_precision")),
        good=cpu(optimization=accelerator("cpu", "openvino")),
        file=CPU,
        at="cpu_execution_accelerator",
    ),
    Case(
        rule="tensorrt-parameter-unknown",
        bad=tensorrt(trt_fp16_enable="1"),
        good=tensorrt(precision_mode="FP16"),
        at="trt_fp16_enable",
    ),
    Case(
        rule="tensorrt-parameter-unknown",
        bad=tensorrt(precision_mode="INT4"),
        at="precision_mode",
    ),
    Case(
        rule="tensorrt-without-cache",
        bad=tensorrt(trt_engine_cache_enable="false"),
        good=tensorrt(),
        at="gpu_execution_accelerator",
    ),
    Case(
        rule="tensorrt-without-profiles",
        bad=tensorrt(trt_profile_opt_shapes=""),
        good=tensorrt(),
        at="gpu_execution_accelerator",
    ),
    Case(
        rule="cpu-accelerator-beside-gpu",
        bad=main(optimization=accelerator("cpu", "openvino")),
        good=cpu(optimization=accelerator("cpu", "openvino")),
        at="cpu_execution_accelerator",
    ),
    Case(
        rule="gpu-accelerator-on-cpu",
        bad=cpu(optimization=accelerator("gpu", "cuda")),
        good=main(optimization=accelerator("gpu", "cuda")),
        file=CPU,
        at="gpu_execution_accelerator",
    ),
    Case(
        rule="openvino-accelerator",
        bad=cpu(optimization=accelerator("cpu", "openvino")),
        file=CPU,
        at="cpu_execution_accelerator",
    ),
    Case(
        rule="graph-level-disables",
        bad=main(optimization={"graph": {"level": 2}}),
        good=main(optimization={"graph": {"level": 1}}),
        at="level: 2",
    ),
    Case(
        rule="graph-level-lowered",
        bad=cpu(optimization={"graph": {"level": 1}}),
        good=main(optimization={"graph": {"level": 1}}),
        file=CPU,
        at="level: 1",
    ),
    Case(
        rule="warmup-random-integers",
        bad=warm("ids", random_data=True),
        good=warm("ids", zero_data=True),
        at='"ids"',
    ),
    Case(
        rule="warmup-random-numbers",
        bad=warm("x", random_data=True),
        good=warm("x", zero_data=True),
        at='"x"',
    ),
    Case(rule="warmup-dims", bad=warm("ids", dims=[-1]), at='"ids"'),
    Case(
        rule="warmup-file-missing",
        bad=instead("plain/warmup/1/x.raw", None),
        good=Yard.unbuilt,
        at='"x"',
    ),
    Case(rule="warmup-file-size", bad=warm("ids", dims=[5]), at='"ids"'),
    Case(
        rule="warmup-on-ensemble",
        bad=lambda yard: chain(model_warmup=yard.main["model_warmup"])(yard),
        file=CHAIN,
        at="model_warmup",
    ),
    Case(
        rule="warmup-tensors",
        bad=lambda yard: yard.main["model_warmup"][0]["inputs"].pop("ids"),
        good=lambda yard: (
            yard.main["model_warmup"][0]["inputs"].pop("ids"),
            yard.main["input"][1].update(optional=True),
        ),
        at="model_warmup",
    ),
    Case(
        rule="warmup-batch-size",
        bad=lambda yard: yard.main["model_warmup"][0].update(batch_size=9),
        good=lambda yard: yard.main["model_warmup"][0].update(batch_size=8),
        at="batch_size: 9",
    ),
    Case(rule="contract-malformed", bad=parameter("edgeml_contract", "{}"), at="edgeml_contract"),
    Case(
        rule="artefact-hash",
        bad=instead("plain/1/fp32.onnx", parse(INTEGER).SerializeToString()),
        at="edgeml_contract",
    ),
    Case(
        rule="contract-file-missing",
        bad=instead("plain/1/contract.json", None),
        good=Yard.unbuilt,
    ),
    Case(
        rule="contract-file-differs",
        bad=instead("plain/1/contract.json", b"{"),
        at="edgeml_contract",
    ),
    Case(rule="labels-missing", bad=instead("plain/labels.txt", None), at="label_filename"),
    Case(
        rule="labels-count",
        bad=instead("plain/labels.txt", b"cat\ndog\nbird\n"),
        good=instead("plain/labels.txt", b"cat\ndog"),
        at="label_filename",
    ),
    Case(
        rule="ensemble-step-unknown",
        bad=step(1, model_name="gone"),
        file=CHAIN,
        at="gone",
    ),
    Case(
        rule="ensemble-version",
        bad=step(0, model_version=2),
        good=step(0, model_version=-1),
        file=CHAIN,
        at="model_version: 2",
    ),
    Case(
        rule="ensemble-batch-size",
        bad=chain(max_batch_size=16),
        good=lambda yard: (chain(max_batch_size=8)(yard), yard.after.update(max_batch_size=0)),
        file=CHAIN,
        at="step",
    ),
    Case(rule="ensemble-step-tensors", bad=step(1, input_map={}), file=CHAIN, at="step"),
    Case(
        rule="ensemble-step-tensors",
        bad=step(0, output_map={"y": "inner", "more": "unused"}),
        file=CHAIN,
        at="step",
    ),
    Case(
        rule="ensemble-tensors-differ",
        bad=lambda yard: yard.after["input"][0].update(dims=[3]),
        good=lambda yard: yard.after["input"][0].update(dims=[-1]),
        file=CHAIN,
        at="step",
    ),
    Case(
        rule="ensemble-tensors-differ",
        bad=lambda yard: yard.chain["output"][0].update(data_type="TYPE_FP64"),
        good=lambda yard: (
            yard.after.update(max_batch_size=0)
            or [row.update(dims=[-1, 2]) for row in (*yard.after["input"], *yard.after["output"])]
        ),
        file=CHAIN,
        at='"z"',
    ),
    Case(
        rule="ensemble-output-missing",
        bad=lambda yard: yard.chain["output"][0].update(name="w"),
        file=CHAIN,
        at='"w"',
    ),
    Case(
        rule="ensemble-input-missing",
        bad=step(1, input_map={"y": "nowhere"}),
        file=CHAIN,
        at="step",
    ),
    Case(rule="ensemble-tensor-twice", bad=step(1, output_map={"z": "x"}), file=CHAIN, at="step"),
    Case(rule="ensemble-cycle", bad=loop, file=CHAIN, at="step"),
    Case(
        rule="ensemble-cycle",
        bad=step(1, model_name="chain"),
        file=CHAIN,
        at="ensemble_scheduling",
    ),
)


def name_of(case: Case) -> str:
    return case.rule


def found(root: Path, rule: str) -> list[Finding]:
    return [row for row in lint_repository(root) if row.rule == rule]


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_a_broken_rule_is_found_at_its_place(case: Case, tmp_path: Path) -> None:
    yard = Yard()
    case.bad(yard)
    rows = found(yard.write(tmp_path), case.rule)
    assert rows, (
        f"nothing was found; other rules: {[row.rule for row in lint_repository(tmp_path)]}"
    )
    here = [row for row in rows if row.file == case.file]
    assert here, f"found in {[row.file for row in rows]}"
    level = next(rule.level for rule in RULES if rule.name == case.rule)
    assert {row.level for row in rows} == {level}
    if case.at is None:
        assert here[0].line is None
    else:
        assert here[0].line is not None
        line = (tmp_path / case.file).read_text().splitlines()[here[0].line - 1]
        assert case.at in line
    # What happened, what was expected, what to do.
    assert ";" in here[0].message
    assert "\n" not in here[0].message


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_what_is_close_to_it_is_let_pass(case: Case, tmp_path: Path) -> None:
    yard = Yard()
    case.good(yard)
    assert found(yard.write(tmp_path), case.rule) == []


def test_every_rule_has_a_case_and_a_name_of_its_own() -> None:
    names = [rule.name for rule in RULES]
    assert sorted(set(names)) == sorted(names)
    assert {case.rule for case in CASES} == set(names)


def test_the_good_repository_has_notes_alone(tmp_path: Path) -> None:
    rows = lint_repository(Yard().write(tmp_path))
    assert {row.rule for row in rows} == {"queue-unbounded"}
