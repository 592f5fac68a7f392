"""Configurations of a text model and what is around it: golden texts, and how they fit together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeml.serving.repository.config import DEFAULT_CONFIG, describe, parse_config
from edgeml.serving.repository.contract import decode_contract, part_of
from edgeml.serving.repository.model_configs import build_configs
from edgeml.serving.repository.options import ServingOptions
from edgeml.serving.repository.parts import labels_config
from edgeml.serving.repository.text_config import text_config, tokenizer_config

GOLDEN = Path(__file__).parent / "golden"
PARTS = {"tokenizer": tokenizer_config, "labels": labels_config, "text": text_config}


def texts_of(contract: dict[str, Any]) -> dict[str, str]:
    options = {"policy": "allowed", "version": 3, "options": ServingOptions(num_threads=2)}
    texts = {"ids": build_configs(contract, name="sentiment", **options)[DEFAULT_CONFIG]}
    for part, build in PARTS.items():
        (texts[part],) = build(contract, model="sentiment", version=3, max_batch_size=32).values()
    return texts


@pytest.mark.parametrize("part", ["ids", *PARTS])
def test_the_text_is_the_reviewed_one(text_contract, part, regenerate_golden):
    path = GOLDEN / f"sentiment_{part}.config.pbtxt"
    text = texts_of(text_contract)[part]
    if regenerate_golden:
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_token_ids_have_free_axes_and_are_joined(text_contract):
    values = parse_config(texts_of(text_contract)["ids"])
    assert [row["dims"] for row in values["input"]] == [["-1"]] * 3
    assert values["dynamic_batching"] == {}
    assert values["backend"] == "onnxruntime"


def test_requests_with_strings_run_alone(text_contract):
    """Triton fails a whole run of a Python model for one string whose length is a lie."""
    texts = texts_of(text_contract)
    assert "dynamic_batching" not in parse_config(texts["tokenizer"])
    assert parse_config(texts["labels"])["dynamic_batching"] == {}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_carries_the_contract_and_whose_part_it_is(text_contract, part):
    found = decode_contract(describe(parse_config(texts_of(text_contract)[part])).contract_text)
    assert part_of(found) == (part, "sentiment")
    assert {key: found[key] for key in text_contract} == text_contract
    assert part_of(text_contract) is None


def test_every_step_of_the_ensemble_is_fed_by_one_before(text_contract):
    texts = {name: parse_config(text) for name, text in texts_of(text_contract).items()}
    ensemble = texts["text"]
    known = {row["name"]: (row["data_type"], row["dims"]) for row in ensemble["input"]}
    for step in ensemble["ensemble_scheduling"]["step"]:
        part = step["model_name"].removeprefix("sentiment").lstrip("_") or "ids"
        assert step["model_version"] == "3"
        for row in texts[part]["input"]:
            assert known[step["input_map"][row["name"]]] == (row["data_type"], row["dims"])
        for row in texts[part]["output"]:
            known[step["output_map"][row["name"]]] = (row["data_type"], row["dims"])
    for row in ensemble["output"]:
        assert known[row["name"]] == (row["data_type"], row["dims"])


def test_no_output_of_the_ensemble_is_what_a_step_takes(text_contract):
    """Triton 2.51 drops such an output from an answer to a request of some outputs."""
    ensemble = parse_config(texts_of(text_contract)["text"])
    taken = {
        name
        for step in ensemble["ensemble_scheduling"]["step"]
        for name in step["input_map"].values()
    }
    assert taken.isdisjoint(row["name"] for row in ensemble["output"])


def test_an_ensemble_is_described_by_its_models(text_contract):
    served = describe(parse_config(texts_of(text_contract)["text"]))
    assert (served.backend, served.device, served.files) == ("ensemble", "", ())
    assert served.artefact == "sentiment_tokenizer + sentiment + sentiment_labels"
    assert {version for _, version in served.steps} == {3}
    tokenizer = describe(parse_config(texts_of(text_contract)["tokenizer"]))
    assert (tokenizer.device, tokenizer.files, tokenizer.signature) == ("cpu", ("model.py",), None)
