"""The training loop of text classifiers, on networks of a few kilobytes."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from edgeml.core.progress import ProgressEvent
from edgeml.errors import DataError, InputError
from edgeml.tasks.classification import ClassLabels
from edgeml.tasks.text import TextPreprocessing, TextTask, fix_tokenizer
from edgeml.training import text_precision, unfinished
from edgeml.training.encoders import build_classifier, find_encoder
from edgeml.training.text_history import LabelledTexts, TextHistory
from edgeml.training.text_loop import train_text
from edgeml.training.text_optimizing import Loss, make_optimizer
from edgeml.training.text_settings import TextTrainingSettings
from edgeml.training.unfinished import Saving
from tests.small_text import make_encoder, make_texts, make_tokenizer

QUICK: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 16,
    "learning_rate": 2e-3,
    "precision": "fp32",
    "num_threads": 1,
}
LEARNING: dict[str, Any] = {
    "count": 200,
    "epochs": 8,
    "batch_size": 8,
    "learning_rate": 5e-3,
    "patience": 9,
}


@pytest.fixture(scope="module")
def task() -> TextTask:
    contents = fix_tokenizer(make_tokenizer().to_str().encode(), max_length=24, pad_id=0)
    contract = TextPreprocessing(
        max_length=24,
        inputs=("input_ids", "attention_mask", "token_type_ids"),
        pad_id=0,
        tokenizer_sha256=hashlib.sha256(contents).hexdigest(),
    )
    return TextTask(contract, ClassLabels(names=("bad", "good")), contents)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_encoder(tmp_path_factory.mktemp("encoders") / "bert")


def _texts(task: TextTask, count: int, *, seed: int = 0, multi: bool = False) -> LabelledTexts:
    texts, labels = make_texts(count, seed=seed)
    targets: Any = np.array([label == "good" for label in labels])
    targets = np.stack([targets, ~targets], axis=1) if multi else targets.astype(np.int64)
    return LabelledTexts(
        rows=[task.prepare(text) for text in texts], targets=targets, num_classes=2
    )


def _network(folder: Path, *, multi: bool = False) -> nn.Module:
    return build_classifier(
        find_encoder(str(folder)),
        num_labels=2,
        multi_label=multi,
        weights="pretrained",
        dropout=0.1,
        seed=0,
    )


def _train(
    network: nn.Module,
    task: TextTask,
    *,
    count: int = 48,
    multi: bool = False,
    saving: Saving | None = None,
    progress: Any = lambda event: None,
    **options: Any,
) -> TextHistory:
    return train_text(
        network,
        _texts(task, count, multi=multi),
        _texts(task, 20, seed=1, multi=multi),
        collate=task.collate,
        settings=TextTrainingSettings(**{**QUICK, **options}),
        saving=saving,
        progress=progress,
    )


def _equal(one: nn.Module, other: nn.Module) -> bool:
    others = other.state_dict()
    return all(torch.equal(value, others[name]) for name, value in one.state_dict().items())


def test_it_learns_and_ends_with_the_best_weights(task: TextTask, folder: Path) -> None:
    network = _network(folder)
    history = _train(network, task, **LEARNING)
    assert history.accuracy >= 0.8
    best = history.evaluations[history.best - 1]
    assert best["validation_accuracy"] == max(
        row["validation_accuracy"] for row in history.evaluations
    )
    assert not network.training
    assert json.loads(json.dumps(history.to_json(), allow_nan=False))["best"] == history.best


def test_the_same_seed_gives_the_same_weights(task: TextTask, folder: Path) -> None:
    networks = [_network(folder) for _ in range(3)]
    for network, seed in zip(networks, (4, 4, 5), strict=True):
        torch.rand(7)  # the caller's own use of chance is none of ours
        _train(network, task, seed=seed, epochs=1)
    assert _equal(networks[0], networks[1])
    assert not _equal(networks[0], networks[2])


def test_the_callers_chance_and_threads_are_left_alone(task: TextTask, folder: Path) -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    _train(_network(folder), task, epochs=1, num_threads=threads + 1)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


class KilledError(Exception):
    """What a killed process looks like from inside."""


def _interrupt(task: TextTask, folder: Path, saving: Saving, *, step: int, **options: Any) -> None:
    def kill(event: ProgressEvent) -> None:
        if event.done == step:
            raise KilledError

    with pytest.raises(KilledError):
        _train(_network(folder), task, saving=saving, progress=kill, **options)


def test_a_resumed_training_ends_with_the_same_bits(
    task: TextTask, folder: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"epochs": 3, "patience": 9}
    whole = _network(folder)
    expected = _train(whole, task, **options)
    place = tmp_path / "c.partial"
    _interrupt(task, folder, Saving(place=place, identity={"a": 1}), step=5, **options)
    assert {path.name for path in place.iterdir()} == {"state.json", "state.safetensors"}
    resumed = _network(folder)
    going_on = Saving(place=place, identity={"a": 1}, resume=True)
    history = _train(resumed, task, saving=going_on, **options)
    assert _equal(whole, resumed)
    assert (history.best, history.epochs, history.resumed) == (expected.best, 3, 1)
    assert history.curve == expected.curve
    for one, other in zip(history.evaluations, expected.evaluations, strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}


def _flip(place: Path) -> None:
    file = place / "state.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def _without_a_tensor(place: Path) -> None:
    file = place / "state.safetensors"
    tensors = load_file(file)
    del tensors["chance/order"]
    save_file(tensors, file)
    value = json.loads((place / "state.json").read_text())
    value["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    (place / "state.json").write_text(json.dumps(value))


def test_a_damaged_or_foreign_state_is_refused(
    task: TextTask, folder: Path, tmp_path: Path
) -> None:
    for number, damage in enumerate(
        (_flip, _without_a_tensor, lambda place: (place / "state.json").write_text("{"))
    ):
        place = tmp_path / str(number)
        _interrupt(task, folder, Saving(place=place, identity={}), step=4)
        damage(place)
        with pytest.raises(DataError, match=r"damaged .*train without --resume"):
            _train(_network(folder), task, saving=Saving(place=place, identity={}, resume=True))
    place = tmp_path / "other"
    _interrupt(task, folder, Saving(place=place, identity={"data": "f", "seed": 0}), step=4)
    other = Saving(place=place, identity={"data": "g", "seed": 0}, resume=True)
    with pytest.raises(InputError, match="differs in data; the same were expected"):
        _train(_network(folder), task, saving=other)


def test_nothing_to_resume_is_said_and_somebody_elses_folder_is_kept(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no unfinished training to resume"):
        unfinished.read_state(tmp_path / "none", {})
    (tmp_path / "thesis.txt").write_text("irreplaceable")
    unfinished.remove_state(tmp_path)
    with pytest.raises(InputError, match="exists and is not a unfinished training"):
        unfinished.check_state_place(tmp_path)
    assert (tmp_path / "thesis.txt").exists()


class Poisoned(nn.Module):
    """Answers NaN from a step on, in training or in evaluation."""

    def __init__(self, *, step: int, training: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.steps, self.step, self.when = 0, step, training

    def forward(self, input_ids: Tensor, **_: Tensor) -> Any:
        self.steps += self.training
        bad = self.training is self.when and self.steps > self.step
        logits = (self.weight + torch.arange(2.0)).expand(len(input_ids), 2)
        return SimpleNamespace(logits=logits * (float("nan") if bad else 1.0))


@pytest.mark.parametrize("training", [True, False])
def test_a_loss_that_is_no_number_is_refused(task: TextTask, training: bool) -> None:
    with pytest.raises(DataError, match=r"at step [23]; lower the learning rate"):
        _train(Poisoned(step=2, training=training), task)


class Scripted(nn.Module):
    """Answers with an accuracy that is written down."""

    def __init__(self, accuracies: tuple[float, ...]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.accuracies, self.number, self.answered = accuracies, 0, False

    def forward(self, input_ids: Tensor, **_: Tensor) -> Any:
        if self.training:
            self.number += self.answered
            self.answered = False
            return SimpleNamespace(logits=self.weight.expand(len(input_ids), 2))
        self.answered = True
        # One evaluation is one batch: `good` and `bad` are told by a text's own words, so that
        # its answer is the share of texts that are answered with the class that half of them have.
        accuracy = self.accuracies[min(self.number, len(self.accuracies) - 1)]
        return SimpleNamespace(logits=torch.tensor([0.0, accuracy]).expand(len(input_ids), 2))


def test_patience_counts_evaluations_and_the_loss_breaks_ties(task: TextTask) -> None:
    # Every evaluation has an accuracy of one half: only the loss, smallest at 0, tells them apart.
    network = Scripted((0.5, 0.0, 0.7, 0.6, 0.4))
    history = _train(network, task, epochs=5, patience=2, averaging=0.0)
    assert (history.best, history.epochs, history.stopped_early) == (2, 4, True)
    assert {row["validation_accuracy"] for row in history.evaluations} == {0.5}


def test_an_epoch_is_evaluated_as_often_as_asked(task: TextTask, folder: Path) -> None:
    history = _train(_network(folder), task, epochs=1, evaluations_per_epoch=3, patience=9)
    assert [row["step"] for row in history.evaluations] == [1, 2, 3]


def test_every_text_is_fitted_once_an_epoch_in_batches_of_like_length(task: TextTask) -> None:
    seen: list[tuple[int, int]] = []

    class Watching(Scripted):
        def forward(self, input_ids: Tensor, **feed: Tensor) -> Any:
            if self.training:
                lengths = feed["attention_mask"].sum(dim=1)
                seen.append((int(lengths.min()), int(lengths.max())))
                rows.extend(tuple(row[row > 0].tolist()) for row in input_ids)
            return super().forward(input_ids, **feed)

    rows: list[tuple[int, ...]] = []
    _train(Watching((0.5,)), task, count=50, epochs=1, averaging=0.0)
    expected = sorted(tuple(row.ids.tolist()) for row in _texts(task, 50).rows)
    assert sorted(rows) == expected
    assert len(seen) == 4
    ordered = sorted(seen)
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(ordered))


def test_several_labels_are_learnt(task: TextTask, folder: Path) -> None:
    network = _network(folder, multi=True)
    assert _train(network, task, multi=True, **LEARNING).accuracy >= 0.8


def test_averaged_weights_are_kept_where_they_are_better(task: TextTask, folder: Path) -> None:
    # A rate that throws the weights about: their average is the steadier one.
    history = _train(
        _network(folder), task, count=160, epochs=4, learning_rate=0.02, averaging=0.9, patience=9
    )
    better = [row["averaged"] for row in history.evaluations]
    assert any(better)
    for row in history.evaluations:
        assert row["validation_accuracy"] == max(row["accuracies"])


def test_rare_classes_weigh_more() -> None:
    settings = TextTrainingSettings(class_weights="balanced")
    data = LabelledTexts(rows=[], targets=np.array([0, 0, 0, 1]), num_classes=3)
    weights = Loss.of(data, settings).weights
    assert weights is not None
    np.testing.assert_allclose(weights.numpy(), [4 / 9, 4 / 3, 4 / 3], rtol=1e-6)
    several = np.array([[True, False], [True, False], [True, False], [False, False]])
    data = LabelledTexts(rows=[], targets=several, num_classes=2)
    positive = Loss.of(data, settings).weights
    assert positive is not None
    np.testing.assert_allclose(positive.numpy(), [1 / 3, 4])
    assert Loss.of(data, TextTrainingSettings()).weights is None


def test_lower_layers_move_slower_and_norms_do_not_decay(folder: Path) -> None:
    network = _network(folder)
    optimizer = make_optimizer(network, TextTrainingSettings(layer_decay=0.5))
    names = {id(value): name for name, value in network.named_parameters()}
    shares = {
        names[id(value)]: (group["share"], group["weight_decay"])
        for group in optimizer.param_groups
        for value in group["params"]
    }
    assert len(shares) == len(names)
    assert shares["classifier.weight"] == (1.0, 0.01)
    assert shares["bert.encoder.layer.1.output.dense.weight"] == (0.5, 0.01)
    assert shares["bert.encoder.layer.0.output.LayerNorm.weight"] == (0.25, 0.0)
    assert shares["bert.embeddings.word_embeddings.weight"] == (0.125, 0.01)


@dataclass(frozen=True, kw_only=True)
class PrecisionCase:
    """Flags and times of a step, and what they must lead to."""

    id: str
    wanted: Any
    flags: frozenset[str]
    bf16_s: float
    used: str
    says: str


@pytest.mark.parametrize(
    "case",
    [
        PrecisionCase(id="faster", wanted="auto", flags=frozenset({"amx_bf16"}), bf16_s=0.5,
                      used="bf16", says="0.50 of the time"),
        PrecisionCase(id="hardly", wanted="auto", flags=frozenset({"avx512_bf16"}), bf16_s=0.95,
                      used="fp32", says="0.95 of the time"),
        PrecisionCase(id="none", wanted="auto", flags=frozenset({"avx2"}), bf16_s=0.1,
                      used="fp32", says="no instructions"),
        PrecisionCase(id="asked", wanted="bf16", flags=frozenset(), bf16_s=9, used="bf16",
                      says="asked for"),
    ],
    ids=lambda case: case.id,
)  # fmt: skip
def test_a_precision_is_asked_for_or_measured(
    case: PrecisionCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_precision, "processor_flags", lambda: case.flags)
    now = [0.0]

    def step(kind: str) -> None:
        now[0] += case.bf16_s if kind == "bf16" else 1.0

    used = text_precision.choose_precision(case.wanted, step, clock=lambda: now[0])
    assert used.precision == case.used
    assert case.says in used.reason


def test_measuring_changes_no_weight(
    task: TextTask, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_precision, "processor_flags", lambda: frozenset({"amx_bf16"}))
    monkeypatch.setattr(text_precision, "_MIN_SPEEDUP", 1e9)
    measured, plain = _network(folder), _network(folder)
    history = _train(measured, task, epochs=1, precision="auto")
    _train(plain, task, epochs=1)
    assert set(history.precision["step_ms"]) == {"fp32", "bf16"}
    assert _equal(measured, plain)


def test_steps_in_bfloat16_leave_weights_in_fp32(task: TextTask, folder: Path) -> None:
    network, plain = _network(folder), _network(folder)
    assert _train(network, task, epochs=1, precision="bf16").precision["precision"] == "bf16"
    _train(plain, task, epochs=1)
    assert {value.dtype for value in network.parameters()} == {torch.float32}
    assert not _equal(network, plain)


@dataclass(frozen=True, kw_only=True)
class SettingCase:
    """A setting outside its range."""

    name: str
    value: Any


@pytest.mark.parametrize(
    "case",
    [
        *(
            SettingCase(name=name, value=value)
            for name in (
                *("epochs", "batch_size", "patience", "evaluations_per_epoch", "learning_rate"),
            )
            for value in (0, -1, float("nan"), float("inf"))
        ),
        *(
            SettingCase(name=name, value=value)
            for name in ("warmup_share", "label_smoothing", "dropout", "averaging", "layer_decay")
            for value in (-0.1, 1.1, float("nan"))
        ),
        SettingCase(name="dropout", value=1.0),
        SettingCase(name="averaging", value=1.0),
        SettingCase(name="layer_decay", value=0.0),
        SettingCase(name="weight_decay", value=-0.1),
        SettingCase(name="max_length", value=3),
        SettingCase(name="class_weights", value="some"),
        SettingCase(name="precision", value="fp16"),
        SettingCase(name="seed", value=-1),
        SettingCase(name="num_threads", value=0),
    ],
    ids=lambda case: f"{case.name}={case.value}",
)
def test_a_setting_outside_its_range_is_refused(case: SettingCase) -> None:
    with pytest.raises(InputError, match=case.name):
        TextTrainingSettings(**{case.name: case.value})
