"""The training loop, on networks small enough to know what must come out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeml.core.progress import ProgressEvent
from edgeml.errors import DataError, InputError
from edgeml.training.evaluating import evaluate
from edgeml.training.image_history import LabelledImages, Normalisation
from edgeml.training.loop import train
from edgeml.training.settings import Augmentation, TrainingSettings

NORMALISATION = Normalisation(mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0))
STILL = Augmentation(flip=False, max_shift=0.0)


def _colours(count: int, *, seed: int = 0) -> LabelledImages:
    """Noisy pictures whose class is their brightest channel."""
    rng = np.random.default_rng(seed)
    targets = np.arange(count) % 3
    images = rng.integers(0, 120, (count, 8, 8, 3), dtype=np.uint8)
    for index, target in enumerate(targets):
        images[index, :, :, target] += 80
    return LabelledImages(images=images, targets=targets.astype(np.int64))


def _network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 3),
        )


def _train(network: nn.Module, *, count: int = 24, **options: Any) -> Any:
    settings: dict[str, Any] = {"epochs": 2, "batch_size": 8, "num_threads": 1, **options}
    return train(
        network,
        _colours(count),
        _colours(12, seed=1),
        normalisation=NORMALISATION,
        settings=TrainingSettings(**settings),
    )


def _weights(**options: Any) -> dict[str, Tensor]:
    network = _network()
    _train(network, **options)
    return network.state_dict()


def _equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_the_same_seed_gives_the_same_weights_whatever_happened_before() -> None:
    first = _weights(seed=4)
    torch.rand(7)  # the caller's own use of chance is none of ours
    assert _equal(first, _weights(seed=4))


def test_another_seed_gives_other_weights() -> None:
    assert not _equal(_weights(seed=4), _weights(seed=5))


def test_the_callers_chance_and_threads_are_left_alone() -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    _train(_network(), num_threads=threads + 1, epochs=1)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_it_learns() -> None:
    network = _network()
    before, _ = evaluate(network, _colours(60, seed=2), NORMALISATION)
    history = _train(network, count=60, epochs=6, patience=9, learning_rate=0.02, norm_momentum=0.3)
    after, accuracy = evaluate(network, _colours(60, seed=2), NORMALISATION)
    assert after < before
    assert accuracy == 1.0
    assert not network.training
    assert history.epochs[-1]["train_loss"] < history.epochs[0]["train_loss"]


class Scripted(nn.Module):
    """Answers with an accuracy that is written down, and counts its epochs in a buffer."""

    def __init__(self, accuracies: tuple[float, ...]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.epoch: Tensor
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))
        self.accuracies = accuracies

    def forward(self, pixels: Tensor) -> Tensor:
        if self.training:
            return torch.stack([self.weight.expand(len(pixels))] * 3, dim=1)
        right = round(self.accuracies[int(self.epoch)] * len(pixels))
        self.epoch += 1
        answers = (torch.arange(len(pixels)) % 3 + (torch.arange(len(pixels)) >= right)) % 3
        return nn.functional.one_hot(answers, 3).float()


@dataclass(frozen=True, kw_only=True)
class StoppingCase:
    """Validation accuracies an epoch, and where training must end."""

    id: str
    accuracies: tuple[float, ...]
    patience: int
    best: int
    run: int


@pytest.mark.parametrize(
    "case",
    [
        StoppingCase(id="rising", accuracies=(0.25, 0.5, 0.75), patience=1, best=3, run=3),
        StoppingCase(id="falls", accuracies=(0.5, 0.75, 0.5, 0.25, 1), patience=2, best=2, run=4),
        StoppingCase(id="recovers", accuracies=(0.5, 0.25, 0.75, 0.5), patience=2, best=3, run=4),
        StoppingCase(id="ties", accuracies=(0.5, 0.5, 0.5), patience=5, best=1, run=3),
        StoppingCase(id="impatient", accuracies=(0.5, 0.25, 1.0), patience=1, best=1, run=2),
        StoppingCase(id="never-right", accuracies=(0, 0), patience=9, best=1, run=2),
    ],
    ids=lambda case: case.id,
)  # fmt: skip
def test_early_stopping_keeps_the_best_epoch(case: StoppingCase) -> None:
    network = Scripted(case.accuracies)
    history = _train(network, epochs=len(case.accuracies), patience=case.patience)
    assert history.best_epoch == case.best
    assert len(history.epochs) == case.run
    assert history.stopped_early is (case.run < len(case.accuracies))
    assert [row["validation_accuracy"] for row in history.epochs] == list(
        case.accuracies[: case.run]
    )
    assert int(network.epoch) == case.best  # the weights are those of that epoch, too


class Poisoned(nn.Module):
    """Answers NaN or infinity from a step on."""

    def __init__(self, value: float, step: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.value, self.step, self.steps = value, step, 0

    def forward(self, pixels: Tensor) -> Tensor:
        self.steps += 1
        factor = self.value if self.steps > self.step else 1.0
        return (self.weight + torch.arange(3.0) * factor).expand(len(pixels), 3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(DataError, match=r"at step 2; lower the learning rate"):
        _train(Poisoned(value, step=2))


def test_the_rate_rises_and_then_falls_like_half_a_cosine() -> None:
    history = _train(
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3)),
        count=100,
        epochs=2,
        batch_size=2,
        warmup_share=0.4,
        learning_rate=0.01,
    )
    rates = {row["step"]: row["learning_rate"] / 0.01 for row in history.curve}
    assert list(rates) == [20, 40, 60, 80, 100]
    assert rates[20] == pytest.approx(0.5)
    assert rates[40] == pytest.approx(1.0)
    for step in (60, 80, 100):
        assert rates[step] == pytest.approx(0.5 * (1 + np.cos(np.pi * (step - 41) / 60)))
    assert rates[100] < 0.001


def test_a_short_run_still_has_a_curve_and_a_peak() -> None:
    history = _train(_network(), epochs=1, count=5, batch_size=64, learning_rate=0.5)
    assert [(row["step"], row["learning_rate"]) for row in history.curve] == [(1, 0.5)]


def test_the_last_small_batch_is_left_out() -> None:
    # One sample has no variance: batch normalisation would refuse it.
    events: list[ProgressEvent] = []
    train(
        _network(),
        _colours(17),
        _colours(6),
        normalisation=NORMALISATION,
        settings=TrainingSettings(epochs=2, batch_size=8, num_threads=1),
        progress=events.append,
    )
    assert [(event.stage, event.done, event.total) for event in events] == [
        ("train", step, 4) for step in (1, 2, 3, 4)
    ]


def test_a_history_is_json() -> None:
    history = _train(_network())
    value = json.loads(json.dumps(history.to_json(), allow_nan=False))
    assert set(value) == {
        *("epochs", "curve", "best_epoch", "stopped_early", "seconds", "compute", "resumed"),
    }
    assert set(value["epochs"][0]) == {
        *("epoch", "train_loss", "validation_loss", "validation_accuracy", "validation_macro_f1"),
        *("averaged", "seconds"),
    }


def test_arrays_that_nobody_may_write_to_are_fine() -> None:
    # Warnings are errors here, and torch warns of such arrays.
    data = _colours(12)
    for array in (data.images, data.targets):
        array.flags.writeable = False
    loss, accuracy = evaluate(_network(), data, NORMALISATION)
    assert loss > 0
    assert 0 <= accuracy <= 1


def test_normalisation_is_the_contracts() -> None:
    from edgeml.tasks.image import ImagePreprocessing

    mean, std = (1.5, 100.0, 200.0), (0.5, 64.0, 7.0)
    images = _colours(2).images
    ours = Normalisation(mean=mean, std=std).apply(torch.from_numpy(images))
    contract = ImagePreprocessing(height=8, width=8, mean=mean, std=std)
    np.testing.assert_array_equal(ours.numpy(), contract.normalise(images))


@dataclass(frozen=True, kw_only=True)
class SettingCase:
    """A setting outside its range."""

    name: str
    value: float | str


@pytest.mark.parametrize(
    "case",
    [
        *(
            SettingCase(name=name, value=value)
            for name in ("epochs", "batch_size", "patience", "learning_rate")
            for value in (0, -1, float("nan"), float("inf"))
        ),
        *(
            SettingCase(name=name, value=value)
            for name in ("warmup_share", "label_smoothing", "norm_momentum", "distillation")
            for value in (-0.1, 1.1, float("nan"))
        ),
        SettingCase(name="batch_size", value=1),
        SettingCase(name="memory_layout", value="nhwc"),
        SettingCase(name="weight_decay", value=-0.1),
        SettingCase(name="seed", value=-1),
        SettingCase(name="num_threads", value=0),
    ],
    ids=lambda case: f"{case.name}={case.value}",
)
def test_a_setting_outside_its_range_is_refused(case: SettingCase) -> None:
    with pytest.raises(InputError, match=case.name):
        TrainingSettings(**{case.name: case.value})  # type: ignore[arg-type]
