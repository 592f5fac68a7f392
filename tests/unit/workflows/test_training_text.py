"""Fine-tuning of text classifiers, from a table to a checkpoint that others can open."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import edgeml
from edgeml.core.progress import ProgressEvent
from edgeml.data.dataset import text_hashes
from edgeml.data.opening import open_text_data
from edgeml.errors import ClosedError, DataError, InputError, SignatureError
from edgeml.tasks.text import text_signature
from edgeml.training.checkpoint import read_checkpoint, read_tokenizer
from edgeml.training.figures import probabilities
from edgeml.training.text_engine import TextTorchEngine
from edgeml.training.text_settings import TextTrainingSettings
from edgeml.training.unfinished import state_place
from tests.small_text import make_encoder, make_table, make_texts
from tests.unit.cli.conftest import Run, run

__all__ = ["run"]

SETTINGS = TextTrainingSettings(
    epochs=2, batch_size=16, learning_rate=2e-3, max_length=16, precision="fp32", num_threads=1
)
TEXTS = ["a lovely film", "", "Dull, DULL plot!", "the film " * 30]


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Torch has one number of threads for the whole process: put it back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True, kw_only=True)
class Made:
    """What the tests of this file read."""

    encoder: Path
    table: Path
    checkpoint: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("texts")
    encoder, table = make_encoder(folder / "tiny"), make_table(folder / "films.csv", 80)
    checkpoint = folder / "c"
    _finetune(table, checkpoint, encoder)
    return Made(encoder=encoder, table=table, checkpoint=checkpoint)


@pytest.fixture
def copy(made: Made, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made.checkpoint, tmp_path / "copy"))


def _finetune(data: Path, out: Path, encoder: Path, **options: Any) -> Any:
    values: dict[str, Any] = {"settings": SETTINGS, **options}
    return edgeml.finetune(
        data=data, out=out, task="text-classification", model=str(encoder), **values
    )


def test_a_checkpoint_says_what_was_done(made: Made) -> None:
    read, network = read_checkpoint(made.checkpoint)
    assert not network.training
    assert (read.task, read.model, read.labels) == ("text-classification", "tiny", ("bad", "good"))
    assert read.preprocessing["max_length"] == 16
    training = read.training
    assert (training["multi_label"], training["precision"]) == (False, "fp32")
    assert training["report"]["samples"] == len(read.split["validation"])
    assert training["report"]["accuracy"] == training["accuracy"]
    assert training["temperature"] == training["report"]["temperature"]
    assert read.data["findings"]["samples"] == 80
    assert len(read.provenance["weights_sha256"]) == 64
    assert not state_place(made.checkpoint).exists()


def test_seen_are_the_texts_of_training_and_choice_and_no_other(made: Made) -> None:
    read, _ = read_checkpoint(made.checkpoint)
    items = open_text_data(made.table).items
    known = set(read.seen.tolist())
    for part, indices in read.split.items():
        hashes = set(text_hashes(items[index] for index in indices).tolist())
        assert hashes.isdisjoint(known) if part == "test" else hashes <= known


def test_transformers_opens_the_folder_and_answers_alike(made: Made) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(made.checkpoint)
    network = transformers.AutoModelForSequenceClassification.from_pretrained(made.checkpoint)
    assert network.config.id2label == {0: "bad", 1: "good"}
    feed = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    with edgeml.load_checkpoint(made.checkpoint, num_threads=1) as predictor:
        task: Any = predictor._task
        ours = task.collate([task.prepare(text) for text in TEXTS])
        assert set(ours) == set(feed)
        for name, array in ours.items():
            np.testing.assert_array_equal(array, feed[name].numpy())
        with torch.inference_mode():
            logits = network(**feed).logits
        temperature = read_checkpoint(made.checkpoint)[0].training["temperature"]
        expected = (logits / temperature).softmax(dim=1).numpy()
        np.testing.assert_array_equal(predictor.run(ours)["probabilities"], expected)


def test_no_path_of_this_machine_is_in_what_transformers_reads(made: Made) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        assert str(made.encoder.parent) not in (made.checkpoint / name).read_text()


@pytest.mark.parametrize("kind", ["distilbert", "roberta"])
def test_other_architectures_make_checkpoints_too(made: Made, tmp_path: Path, kind: str) -> None:
    encoder = make_encoder(tmp_path / kind, kind=kind)
    _finetune(made.table, tmp_path / "c", encoder, settings=replace(SETTINGS, epochs=1))
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "c")
    feed = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="np")
    with edgeml.load_checkpoint(tmp_path / "c", num_threads=1) as predictor:
        assert set(feed) == {"input_ids", "attention_mask"}
        predictor.run({name: array.astype(np.int64) for name, array in feed.items()})
        task: Any = predictor._task
        ours = task.collate([task.prepare(text) for text in TEXTS])
        np.testing.assert_array_equal(ours["input_ids"], feed["input_ids"])


def test_a_predictor_answers_strings_and_refuses_wrong_tensors(made: Made) -> None:
    predictor = edgeml.load_checkpoint(made.checkpoint, num_threads=1)
    answer = predictor.predict("a lovely film")
    assert answer.label in ("bad", "good")
    assert sum(answer.scores.values()) == pytest.approx(1)
    assert predictor.served_by == "torch/cpu/fp32"
    with pytest.raises(SignatureError, match="input_ids"):
        predictor.run({"input_ids": np.zeros((1, 4), dtype=np.int32)})
    predictor.close()
    with pytest.raises(ClosedError):
        predictor.predict("more")
    with pytest.raises(InputError, match="channels_last is for images"):
        edgeml.load_checkpoint(made.checkpoint, channels_last=True)


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_engine_divides_by_the_temperature(made: Made, *, multi_label: bool) -> None:
    _, network = read_checkpoint(made.checkpoint)
    tensors, _ = edgeml.load_split(made.checkpoint, part="validation")
    signature = text_signature(tuple(tensors), num_classes=2)
    engine = TextTorchEngine(
        network, signature, temperature=3.0, multi_label=multi_label, num_threads=1
    )
    with torch.inference_mode():
        logits = network(**{name: torch.from_numpy(row) for name, row in tensors.items()}).logits
    expected = probabilities(logits.numpy(), multi_label=multi_label, temperature=3.0)
    np.testing.assert_allclose(engine.run(tensors)["probabilities"], expected, rtol=1e-5)


def test_a_part_is_padded_to_its_longest_text(made: Made, copy: Path) -> None:
    tensors, targets = edgeml.load_split(made.checkpoint, part="validation")
    assert set(tensors) == {"input_ids", "attention_mask", "token_type_ids"}
    assert tensors["attention_mask"].sum(axis=1).max() == tensors["input_ids"].shape[1] <= 16
    assert set(targets.tolist()) == {0, 1}
    some, right = edgeml.load_split(made.checkpoint, part="train", limit=3, seed=2)
    assert (len(some["input_ids"]), len(right)) == (3, 3)
    assert len(edgeml.training_curve(made.checkpoint)) == 1
    value = json.loads((copy / "checkpoint.json").read_text())
    value["data"]["fingerprint"] = "0" * 64
    (copy / "checkpoint.json").write_text(json.dumps(value))
    with pytest.raises(DataError, match="has changed since training"):
        edgeml.load_split(copy)


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
)
@pytest.mark.parametrize("damage", [lambda data: data[:-1] + b"?", lambda data: None])
def test_every_file_is_hashed(
    copy: Path, name: str, damage: Callable[[bytes], bytes | None]
) -> None:
    changed = damage((copy / name).read_bytes())
    (copy / name).unlink()
    if changed is not None:
        (copy / name).write_bytes(changed)
    with pytest.raises(DataError, match=r"the checkpoint is damaged .*train it again"):
        read_checkpoint(copy)
    if name == "tokenizer.json":
        with pytest.raises(DataError, match="the checkpoint is damaged"):
            read_tokenizer(copy)


def test_another_number_of_labels_is_damage(copy: Path) -> None:
    value = json.loads((copy / "checkpoint.json").read_text())
    (copy / "checkpoint.json").write_text(json.dumps({**value, "labels": ["a", "b", "c"]}))
    with pytest.raises(DataError, match="3 labels were expected"):
        read_checkpoint(copy)


def test_several_labels_a_text(made: Made, tmp_path: Path) -> None:
    texts, labels = make_texts(60)
    rows = [
        f"{text},{label}{';long' if len(text) > 40 else ''}"
        for text, label in zip(texts, labels, strict=True)
    ]
    table = tmp_path / "several.csv"
    table.write_text("\n".join(["text,label", *rows, ""]))
    _finetune(table, tmp_path / "c", made.encoder, multi_label_separator=";")
    read, network = read_checkpoint(tmp_path / "c")
    assert read.training["multi_label"] is True
    assert set(read.labels) == {"bad", "good", "long"}
    tensors, targets = edgeml.load_split(tmp_path / "c", part="validation")
    assert (targets.dtype, targets.shape[1]) == (np.bool_, 3)
    with edgeml.load_checkpoint(tmp_path / "c", num_threads=1) as predictor:
        chances = predictor.run(tensors)["probabilities"]
    with torch.inference_mode():
        logits = network(**{name: torch.from_numpy(row) for name, row in tensors.items()}).logits
    expected = (logits / read.training["temperature"]).sigmoid().numpy()
    np.testing.assert_allclose(chances, expected, rtol=1e-6)


def test_an_interrupted_training_is_resumed_to_the_same_bits(made: Made, tmp_path: Path) -> None:
    def kill(event: ProgressEvent) -> None:
        if event.stage == "train" and event.done == 6:
            raise KeyboardInterrupt

    place = tmp_path / "c"
    with pytest.raises(KeyboardInterrupt):
        _finetune(made.table, place, made.encoder, progress=kill)
    assert state_place(place).is_dir()
    assert not place.exists()
    with pytest.raises(InputError, match="differs in learning_rate"):
        _finetune(
            made.table, place, made.encoder, resume=True,
            settings=replace(SETTINGS, learning_rate=1e-3),
        )  # fmt: skip
    _finetune(made.table, place, made.encoder, resume=True)
    assert not state_place(place).exists()
    name = "model.safetensors"
    assert (place / name).read_bytes() == (made.checkpoint / name).read_bytes()


def test_there_may_be_nothing_to_resume(made: Made, copy: Path, tmp_path: Path) -> None:
    with pytest.warns(RuntimeWarning, match=r"nothing to resume; starting from the beginning"):
        _finetune(made.table, tmp_path / "c", made.encoder, resume=True)
    name = "model.safetensors"
    assert (tmp_path / "c" / name).read_bytes() == (made.checkpoint / name).read_bytes()
    with pytest.warns(RuntimeWarning, match="was finished before; its checkpoint is kept"):
        kept = _finetune(made.table, copy, made.encoder, resume=True)
    assert kept.epochs == SETTINGS.epochs
    with pytest.raises(InputError, match="differs in learning_rate"):
        _finetune(made.table, copy, made.encoder, resume=True,
                  settings=replace(SETTINGS, learning_rate=1e-3))  # fmt: skip


def test_random_weights_have_no_hash(made: Made, tmp_path: Path) -> None:
    _finetune(made.table, tmp_path / "c", made.encoder, weights="random",
              settings=replace(SETTINGS, epochs=1))  # fmt: skip
    provenance = read_checkpoint(tmp_path / "c")[0].provenance
    assert (provenance["weights"], provenance["weights_sha256"]) == ("random", None)


def test_a_length_beyond_the_model_is_refused(made: Made, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"max_length is 65; .* takes at most 64 tokens"):
        _finetune(
            made.table, tmp_path / "c", made.encoder, settings=replace(SETTINGS, max_length=65)
        )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"task": "text-classification", "image_size": 96}, "--image-size: image_size is for"),
        ({"text_column": "text"}, "--text-column: text_column is for text-classification"),
        ({"multi_label_separator": ";"}, "--multi-label: multi_label_separator is for"),
        ({"task": "recommendation", "resume": True}, "--resume: an interrupted training"),
        ({"task": "recommendation", "model": "bpr"}, "--model: a recommendation has no model"),
        ({"settings": TextTrainingSettings()}, "TrainingSettings was expected for image"),
        (
            {"task": "text-classification", "settings": edgeml.TrainingSettings()},
            "TextTrainingSettings was expected for text",
        ),
    ],
    ids=str,
)
def test_options_of_the_other_task_are_refused(
    tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        edgeml.finetune(data=tmp_path, out=tmp_path / "c", **options)


def test_an_image_checkpoint_has_no_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.json").write_text(
        '{"schema_version": 1, "task": "image-classification"}'
    )
    with pytest.raises(InputError, match=r"is for image-classification and has no tokenizer\.json"):
        read_tokenizer(tmp_path)


def test_the_command_line_trains_and_prints_one_object(
    run: Run, made: Made, tmp_path: Path
) -> None:
    done = run(
        *("finetune", "--task", "text-classification", "--data", made.table, "--json"),
        *("--model", made.encoder, "--out", tmp_path / "c", "--epochs", 1, "--max-length", 20),
        *("--text-column", "text", "--label-column", "label", "--batch-size", 16),
        *("--learning-rate", 0.001, "--class-weights", "balanced", "--precision", "fp32"),
        *("--seed", 3, "--threads", 1),
    )
    assert (done.code, done.err) == (0, "")
    assert set(done.json) == {"checkpoint", "accuracy", "epochs", "seconds"}
    settings = read_checkpoint(tmp_path / "c")[0].training["settings"]
    expected = {"epochs": 1, "max_length": 20, "batch_size": 16, "learning_rate": 0.001,
                "class_weights": "balanced", "seed": 3, "weight_decay": 0.01}  # fmt: skip
    assert {name: settings[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--max-length", 20), "--max-length: this option is for text-classification"),
        (("--task", "recommendation", "--precision", "fp32"), "--precision: this option is for"),
        (("--task", "recommendation", "--class-weights", "none"), "--class-weights: this option"),
        (("--task", "recommendation", "--resume"), "--resume: this option is for"),
        (("--multi-label", ";"), "--multi-label: "),
        (("--task", "text-classification", "--image-size", 96), "--image-size: "),
        (("--task", "text-classification", "--max-length", 2), "max_length is 2"),
    ],
    ids=str,
)
def test_options_that_make_no_sense_end_with_2(
    run: Run, tmp_path: Path, arguments: tuple[object, ...], says: str
) -> None:
    done = run("finetune", "--data", tmp_path, "--out", tmp_path / "c", *arguments)
    assert (done.code, done.out) == (2, "")
    assert says in done.error
