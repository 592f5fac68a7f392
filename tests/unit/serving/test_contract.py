"""The contract: what is in it, which variant a CPU runs, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from edgeml.core.bundle import Bundle
from edgeml.errors import InputError
from edgeml.serving.repository.contract import (
    contract_of,
    decode_contract,
    encode_contract,
    signature_of,
    task_of,
    variant_of,
)
from edgeml.tasks.tensor import TensorTask
from tests import bundles
from tests.unit.serving.tiny_bundle import LABELS, make_lookup_bundle, make_tiny_bundle


def test_it_carries_what_a_client_needs(tiny: Bundle):
    contract = decode_contract(encode_contract(contract_of(tiny)))
    assert contract == contract_of(tiny)
    assert signature_of(contract) == tiny.manifest.signature
    assert task_of(contract).labels.names == LABELS
    assert task_of(contract).preprocessing.to_json() == tiny.manifest.preprocessing
    hashes = {name: row["sha256"] for name, row in contract["variants"].items()}
    assert hashes == {row.name: row.sha256 for row in tiny.manifest.variants}
    assert (contract["chosen"], contract["cpu"], contract["gpu"]) == ("int8", "int8", "fp16")
    assert variant_of(contract, "fp16.onnx") == "fp16"
    assert variant_of(contract, "model.onnx") == "model.onnx"


def test_a_variant_that_couples_a_batch_is_not_served(tmp_path):
    bundle = make_tiny_bundle(tmp_path / "tiny.bundle", batch_safe=False)
    assert contract_of(bundle)["chosen"] == "int8"
    assert contract_of(bundle)["cpu"] == "fp32"


def test_a_variant_of_another_engine_is_not_served(tmp_path):
    bundle = make_tiny_bundle(tmp_path / "tiny.bundle")
    assert contract_of(bundle)["cpu"] == "int8"
    rows = [
        replace(row, engine="openvino") if row.name == "int8" else row
        for row in bundle.manifest.variants
    ]
    manifest = replace(bundle.manifest, variants=tuple(rows))
    assert contract_of(replace(bundle, manifest=manifest))["cpu"] == "fp32"
    best = replace(rows[0], name="fp32-lean")
    engines = {"onnxruntime": "fp32-lean", "openvino": "int8"}
    manifest = replace(manifest, variants=(*rows, best), chosen_by_engine=engines)
    assert contract_of(replace(bundle, manifest=manifest))["cpu"] == "fp32-lean"


def test_a_bundle_with_nothing_safe_in_a_batch_is_refused(tmp_path):
    bundle = make_tiny_bundle(tmp_path / "tiny.bundle", batch_safe=False, variants=("int8",))
    with pytest.raises(InputError, match="safe in a batch"):
        contract_of(bundle)


def test_a_task_without_a_client_is_named(tmp_path):
    contract = contract_of(bundles.make_bundle(tmp_path / "sums.bundle"))
    contract["task"] = "recommendation"
    with pytest.raises(InputError, match=r"its task is 'recommendation'; this edgeml runs image-"):
        task_of(contract)


def test_named_arrays_have_their_signature_for_a_contract(tmp_path):
    bundle = make_lookup_bundle(tmp_path / "lookup.bundle")
    task = task_of(decode_contract(encode_contract(contract_of(bundle))))
    assert task == TensorTask(signature=bundle.manifest.signature)
    feed = task.prepare({"ids": [3], "bias": [0, 1, 2]})
    assert bundle.manifest.signature.check_inputs(feed) == 1


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{}", "7", "[" * 100_000, '{"format": 1}', '{"format": 1, "variants": 3}'],
)
def test_a_malformed_contract_is_refused(text):
    with pytest.raises(InputError, match="edgeml_contract is malformed"):
        decode_contract(text)


@pytest.mark.parametrize("key", ["signature", "labels", "preprocessing", "variants", "cpu"])
def test_a_contract_without_a_key_is_refused(contract, key):
    del contract[key]
    with pytest.raises(InputError, match=key):
        decode_contract(json.dumps(contract))


def test_a_later_format_is_refused_by_its_number(contract):
    with pytest.raises(InputError, match="has format 2; this edgeml reads 1"):
        decode_contract(json.dumps({**contract, "format": 2}))
