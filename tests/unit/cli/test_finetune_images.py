"""What ``edgeml finetune`` makes of its options for pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import edgeml
from edgeml.training.automatic import augmentation_of
from tests.unit.cli.conftest import Run


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the library would have been asked for."""
    found: dict[str, Any] = {}

    def finetune(**options: Any) -> Any:
        found.update(options)
        raise edgeml.EdgemlError("enough; that was it; stop")

    monkeypatch.setattr("edgeml.workflows.training.finetune", finetune)
    return found


def test_options_that_were_not_given_change_nothing(run: Run, asked: dict[str, Any]) -> None:
    run("finetune", "--data", "d", "--out", "o")
    assert asked["overrides"] == {}
    assert asked["options"] == edgeml.ImageOptions()
    assert (asked["resume"], asked["image_size"]) == (False, None)


def test_options_reach_settings_and_run(run: Run, asked: dict[str, Any]) -> None:
    run(
        *("finetune", "--data", "d", "--out", "o", "--resume", "--epochs", 4, "--threads", 1),
        *("--learning-rate", 0.01, "--class-weights", "sampling", "--precision", "bf16"),
        *("--memory-layout", "contiguous", "--augmentation", "strong", "--no-flip"),
        *("--dropout", 0.1, "--averaging", 0.9),
        *("--label-smoothing", 0.2, "--frozen-epochs", 2, "--groups", "g.csv", "--allow-leaks"),
        *("--skip-unreadable", "--profile", "--validation-share", 0.2, "--test-share", 0.1),
        *("--per-class", 9, "--teacher", "t", "--image-size", 80),
    )
    overrides = dict(asked["overrides"])
    assert overrides == {
        "augmentation": augmentation_of("strong"), "flip": False, "memory_layout": "contiguous",
        "epochs": 4, "num_threads": 1, "learning_rate": 0.01, "class_weights": "sampling",
        "precision": "bf16", "dropout": 0.1, "averaging": 0.9, "label_smoothing": 0.2,
        "frozen_epochs": 2,
    }  # fmt: skip
    assert asked["options"] == edgeml.ImageOptions(
        groups=Path("g.csv"), allow_leaks=True, skip_unreadable=True, profile=True,
        validation_share=0.2, test_share=0.1, per_class=9, teacher=Path("t"),
    )  # fmt: skip
    assert (asked["resume"], asked["image_size"]) == (True, 80)


def test_no_flip_alone_leaves_the_augmentation_to_the_size_of_the_data(
    run: Run, asked: dict[str, Any]
) -> None:
    run("finetune", "--data", "d", "--out", "o", "--no-flip")
    assert asked["overrides"] == {"flip": False}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--max-length", 9), "--max-length: this option is for text-classification"),
        (("--validation-share", 0.9), "validation_share is 0.9"),
        (("--per-class", 1), "per_class is 1"),
        (("--task", "text-classification", "--profile"), "--profile: this option is for image"),
        (("--task", "text-classification", "--dropout", 0.1), "--dropout: this option is for im"),
        (("--task", "text-classification", "--class-weights", "auto"), "class_weights is 'auto'"),
    ],
    ids=lambda value: str(value[-2:]) if isinstance(value, tuple) else "",
)
def test_options_for_another_task_or_range_are_refused(
    run: Run, asked: dict[str, Any], arguments: tuple[Any, ...], says: str
) -> None:
    done = run("finetune", "--data", "d", "--out", "o", *arguments)
    assert done.code == 2
    assert says in done.error
    assert not asked
