"""config.pbtxt: golden texts, round trips, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeml.core.dtypes import BY_NUMPY
from edgeml.core.signature import ModelSignature, TensorSpec
from edgeml.errors import InputError
from edgeml.serving.repository.config import (
    CPU_CONFIG,
    DEFAULT_CONFIG,
    describe,
    parse_config,
    read_config,
)
from edgeml.serving.repository.contract import decode_contract
from edgeml.serving.repository.model_configs import build_configs
from edgeml.serving.repository.options import ServingOptions
from edgeml.serving.repository.samples import GoldenSamples

GOLDEN = Path(__file__).parent / "golden"


def build(contract: dict[str, Any], policy: str = "allowed") -> dict[str, str]:
    return build_configs(
        contract, name="clothing", policy=policy, version=3, options=ServingOptions(num_threads=2)
    )


@pytest.mark.parametrize("policy", ["allowed", "required", "forbidden"])
def test_the_text_is_the_reviewed_one(contract, policy, regenerate_golden):
    for relative, text in build(contract, policy).items():
        path = GOLDEN / f"{policy}.{Path(relative).name}"
        if regenerate_golden:
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8")


def test_allowed_prefers_the_gpu_and_names_a_file_for_every_device(contract):
    configs = build(contract)
    anywhere = describe(parse_config(configs[DEFAULT_CONFIG]))
    cpu = describe(parse_config(configs[CPU_CONFIG]))
    assert (anywhere.kind, anywhere.default_file) == ("", "fp32.onnx")
    assert set(anywhere.gpu_files.values()) == {"fp16.onnx"}
    assert {"7.0", "8.6", "9.0", "12.0"} <= set(anywhere.gpu_files)
    assert anywhere.files == ("fp32.onnx", "fp16.onnx")
    assert (cpu.device, cpu.artefact, cpu.files) == ("cpu", "int8.onnx", ("int8.onnx",))


def test_required_needs_a_gpu_and_forbidden_never_uses_one(contract):
    required = build(contract, "required")
    forbidden = build(contract, "forbidden")
    assert list(required) == list(forbidden) == [DEFAULT_CONFIG]
    assert describe(parse_config(required[DEFAULT_CONFIG])).kind == "KIND_GPU"
    assert describe(parse_config(required[DEFAULT_CONFIG])).artefact == "fp16.onnx"
    assert describe(parse_config(forbidden[DEFAULT_CONFIG])).kind == "KIND_CPU"
    assert describe(parse_config(forbidden[DEFAULT_CONFIG])).artefact == "int8.onnx"


@pytest.mark.parametrize("gpu", ["fp32", "int8", None])
def test_an_fp16_variant_that_was_not_chosen_for_gpus_is_not_served(contract, gpu):
    """It is in the bundle and failed its checks: it must not run where nobody looks."""
    contract["gpu"] = gpu
    anywhere = describe(parse_config(build(contract)[DEFAULT_CONFIG]))
    assert (anywhere.gpu_files, anywhere.files) == ({}, ("fp32.onnx",))
    with pytest.raises(InputError, match=r"needs an accepted fp16 variant.*another --fallback"):
        build(contract, "required")


def test_the_fp16_variant_may_have_another_name(contract):
    contract["variants"]["half"] = {"file": "half.onnx", "precision": "fp16", "sha256": "d" * 64}
    contract["gpu"] = "half"
    required = describe(parse_config(build(contract, "required")[DEFAULT_CONFIG]))
    anywhere = describe(parse_config(build(contract)[DEFAULT_CONFIG]))
    assert required.artefact == "half.onnx"
    assert set(anywhere.gpu_files.values()) == {"half.onnx"}


@pytest.mark.parametrize("policy", ["", "Allowed", "maybe"])
def test_an_unknown_policy_is_refused(contract, policy):
    with pytest.raises(InputError, match="required, allowed, forbidden"):
        build(contract, policy)


def test_instances_share_the_threads(contract):
    (text,) = build_configs(
        contract,
        name="clothing",
        policy="forbidden",
        version=1,
        options=ServingOptions(num_threads=5, instances=2, max_batch_size=6),
    ).values()
    values = parse_config(text)
    assert values["instance_group"] == [{"kind": "KIND_CPU", "count": 2}]
    assert values["parameters"]["intra_op_thread_count"]["string_value"] == "2"
    assert values["max_batch_size"] == 6
    assert values["dynamic_batching"] == {}


@pytest.mark.parametrize("policy", ["allowed", "required", "forbidden"])
def test_every_instance_asks_for_the_resources(contract, policy):
    options = ServingOptions(resources={"memory": 2, "disk": 1}, priority=3)
    for text in build_configs(
        contract, name="clothing", policy=policy, version=1, options=options
    ).values():
        (group,) = parse_config(text)["instance_group"]
        assert group["rate_limiter"] == {
            "resources": [{"name": "disk", "count": 1}, {"name": "memory", "count": 2}],
            "priority": 3,
        }
        assert describe(parse_config(text)).rate_limited


def test_a_queue_is_bounded_only_when_asked(contract):
    options = ServingOptions(queue_delay_us=500, max_queue_size=16, queue_timeout_us=20_000)
    (text,) = build_configs(
        contract, name="clothing", policy="forbidden", version=1, options=options
    ).values()
    assert parse_config(text)["dynamic_batching"] == {
        "max_queue_delay_microseconds": "500",
        "default_queue_policy": {
            "default_timeout_microseconds": "20000",
            "allow_timeout_override": True,
            "max_queue_size": 16,
        },
    }


def test_golden_samples_warm_every_batch_size_of_a_gpu_and_one_of_a_cpu(contract):
    image = np.arange(2 * 8 * 8 * 3, dtype=np.uint8).reshape(2, 8, 8, 3)
    signature = ModelSignature(
        inputs=(TensorSpec(name="image", dtype="uint8", shape=("batch", 8, 8, 3)),),
        outputs=(TensorSpec(name="probabilities", dtype="float32", shape=("batch", 10)),),
    )
    samples = GoldenSamples(signature=signature, tensors={"image": image})
    configs = build_configs(
        contract,
        name="clothing",
        policy="allowed",
        version=3,
        options=ServingOptions(max_batch_size=12),
        samples=samples,
    )
    rows = {name: parse_config(text)["model_warmup"] for name, text in configs.items()}
    assert [row["batch_size"] for row in rows[DEFAULT_CONFIG]] == [1, 2, 4, 8, 12]
    (row,) = rows[CPU_CONFIG]
    assert row["inputs"]["image"] == {
        "data_type": "TYPE_UINT8",
        "dims": ["8", "8", "3"],
        "input_data_file": "3/0.raw",
    }
    assert samples.warmup_files(version=3) == {"3/0.raw": image[0].tobytes()}


def test_tensorrt_gets_a_cache_and_the_shapes_of_every_batch(contract):
    options = ServingOptions(max_batch_size=8, tensorrt=True)
    configs = build_configs(contract, name="clothing", policy="allowed", version=1, options=options)
    (row,) = parse_config(configs[DEFAULT_CONFIG])["optimization"]["execution_accelerators"][
        "gpu_execution_accelerator"
    ]
    height, width, channels = contract["signature"]["inputs"][0]["shape"][1:]
    size = f"{height}x{width}x{channels}"
    assert row["name"] == "tensorrt"
    assert row["parameters"]["trt_engine_cache_enable"] == "true"
    assert row["parameters"]["trt_profile_min_shapes"] == f"image:1x{size}"
    assert row["parameters"]["trt_profile_opt_shapes"] == f"image:4x{size}"
    assert row["parameters"]["trt_profile_max_shapes"] == f"image:8x{size}"
    assert "optimization" not in parse_config(configs[CPU_CONFIG])


def test_tensorrt_wants_to_know_the_longest_text(contract):
    spec = {"name": "ids", "dtype": "int64", "shape": ["batch", "sequence"]}
    text = {**contract, "signature": {**contract["signature"], "inputs": [spec]}}
    options = ServingOptions(max_batch_size=4, tensorrt=True)
    with pytest.raises(InputError, match="axis 'sequence' of 'ids' is free"):
        build_configs(
            {**text, "preprocessing": {}},
            name="t",
            policy="allowed",
            version=1,
            options=options,
        )
    configs = build_configs(
        {**text, "preprocessing": {"max_length": 64}},
        name="t",
        policy="allowed",
        version=1,
        options=options,
    )
    assert '"ids:4x64"' in configs[DEFAULT_CONFIG]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"num_threads": 0}, "num_threads is 0; a whole number from 1"),
        ({"instances": 2}, "2 instances share 1 threads"),
        ({"max_batch_size": 0}, "max_batch_size is 0"),
        ({"queue_delay_us": -1}, "queue_delay_us is -1; a whole number from 0"),
        ({"max_queue_size": 1.5}, "max_queue_size is 1.5"),
        ({"queue_timeout_us": True}, "queue_timeout_us is True"),
        ({"resources": {"memory": 0}}, "the resource 'memory' is 0; a whole number from 1"),
        ({"resources": {" ": 1}}, "a resource has no name"),
        ({"priority": 1}, "priority is 1 and nothing is waited for"),
    ],
)
def test_an_unusable_option_is_refused(options, says):
    with pytest.raises(InputError, match=says):
        ServingOptions(**options)


def test_a_fixed_batch_axis_is_refused(contract):
    contract["signature"]["inputs"][0]["shape"] = [1, 64, 64, 3]
    with pytest.raises(InputError, match="free first axis"):
        build(contract)


def test_requests_are_joined_without_a_delay_or_a_queue_policy(contract):
    """Either would make a lone request wait; the policy for half a second, now and then."""
    for text in build(contract).values():
        assert parse_config(text)["dynamic_batching"] == {}
        assert parse_config(text)["instance_group"][0]["count"] == 1


def test_the_contract_survives_the_text(contract):
    for text in build(contract).values():
        found = describe(parse_config(text)).contract_text
        assert decode_contract(found) == contract


@pytest.mark.parametrize("text", ["name: ", "{}", "max_batch_size: -", "surprise: 1", "\x00"])
def test_what_is_not_a_configuration_is_refused(text):
    with pytest.raises(InputError, match=r"config\.pbtxt: this is not a model configuration"):
        parse_config(text)


@pytest.mark.parametrize(
    "text",
    ["", 'input { name: "x" dims: 1 }', 'input { name: "x" data_type: TYPE_BF16 dims: 1 }'],
)
def test_tensors_that_edgeml_cannot_use_are_refused(text):
    with pytest.raises(InputError, match="inputs or outputs"):
        describe(parse_config(text))


def test_a_model_of_strings_is_served_to_others_and_has_no_signature_of_ours():
    text = """
        name: "echo"
        input { name: "x" data_type: TYPE_STRING dims: 1 }
        output { name: "y" data_type: TYPE_FP32 dims: 1 }
    """
    model = describe(parse_config(text))
    assert (model.name, model.files, model.signature) == ("echo", ("model.onnx",), None)


def test_a_file_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "config.pbtxt"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="cannot be read"):
        read_config(path)


axes = st.one_of(st.integers(1, 9000), st.sampled_from(["sequence", "height"]))
specs = st.builds(
    TensorSpec,
    name=st.text("aZ_0.:/-'\"\\ßé", min_size=1, max_size=12),
    dtype=st.sampled_from(sorted(BY_NUMPY)),
    shape=st.lists(axes, max_size=4).map(lambda rest: ("batch", *rest)),
)
sides = st.lists(specs, min_size=1, max_size=3, unique_by=lambda spec: spec.name).map(tuple)


def free(spec: TensorSpec) -> tuple[Any, ...]:
    shape = tuple(axis if isinstance(axis, int) else None for axis in spec.shape)
    return spec.name, spec.dtype, shape


@given(signature=st.builds(ModelSignature, inputs=sides, outputs=sides), labels=st.booleans())
def test_any_signature_survives_the_text(contract, signature, labels):
    changed = {**contract, "signature": signature.to_json(), "labels": ["one"] * labels}
    for text in build(changed).values():
        found = describe(parse_config(text)).signature
        assert list(map(free, found.inputs)) == list(map(free, signature.inputs))
        assert list(map(free, found.outputs)) == list(map(free, signature.outputs))
