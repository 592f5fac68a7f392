"""A fine-tuning's page: examples in any case, what its data is like, nothing from outside."""

from __future__ import annotations

import numpy as np
import pytest

from edgeml.training.checkpoint import Checkpoint
from edgeml.training.figures import Floats
from edgeml.training.image_history import History, LabelledImages
from edgeml.training.image_report import image_report
from edgeml.workflows.training_report import training_page
from tests.pages import Page

LABELS = ("bad <b>", "good")
FINDINGS = {
    "samples": 123,
    "classes": {"bad <b>": 100, "good": 23},
    "exact_copies": 7,
    "unreadable": 2,
    "first_unreadable": ["a/b.png: no picture", "c.png: empty"],
}
COUNT = 40
TARGETS = np.arange(COUNT, dtype=np.int64) % 2


def _page(logits: Floats) -> str:
    images = np.random.default_rng(0).integers(0, 256, (COUNT, 12, 9, 3), dtype=np.uint8)
    rows = [
        {"train_loss": loss, "validation_loss": loss, "validation_accuracy": 0.5}
        for loss in (1.0, 0.5)
    ]
    compute = {"bf16": False, "channels_last": True, "reason": "measured"}
    curve = [{"step": 20, "train_loss": 1.0, "learning_rate": 0.1}]
    history = History(epochs=rows, best_epoch=2, compute=compute, curve=curve)
    report = image_report(
        logits,
        LabelledImages(images=images, targets=TARGETS),
        training=(logits, TARGETS),
        labels=LABELS,
        names=[f"picture-{index}.png" for index in range(COUNT)],
        history=history,
    )
    split = np.arange(COUNT)
    checkpoint = Checkpoint(
        task="image-classification",
        model="tiny",
        labels=LABELS,
        preprocessing={},
        data={"name": "photographs", "split": {"train": COUNT}, "findings": FINDINGS},
        split={"train": split, "validation": split, "test": split},
        seen=np.zeros(0, dtype=np.uint64),
        training={"report": report, "history": history.to_json(), "settings_for": "small"},
        provenance={"weights": "random"},
    )
    return training_page(checkpoint)


@pytest.fixture
def right() -> Floats:
    """Logits of which each is right, number 6 the least surely."""
    logits = np.eye(2)[TARGETS] * 4.0
    logits[6] = (0.2, 0.0)
    return logits


def test_errors_are_shown_with_label_answer_and_confidence(right: Floats) -> None:
    right[5] = (3.0, 0.0)
    page = Page(_page(right))
    assert "Errors that the model was surest of" in page.headings
    (caption,) = page.captions
    assert caption.startswith("picture-5.png is good, given bad <b> (0.")
    assert page.picture(0).size == (9, 12)
    assert page.outside == []


def test_without_an_error_the_unsurest_answers_are_shown(right: Floats) -> None:
    page = Page(_page(right))
    assert "No error; the right answers that the model was least sure of" in page.headings
    assert "Errors that the model was surest of" not in page.headings
    assert len(page.captions) == len(page.images) == 12
    assert page.captions[0].startswith("picture-6.png is bad <b>, given bad <b> (0.5")
    assert all(page.picture(index).size == (9, 12) for index in range(12))
    assert page.outside == []


def test_what_was_found_in_the_data_is_shown(right: Floats) -> None:
    text = _page(right)
    for row in (
        "<td>samples</td><td>123</td>",
        "<td>classes</td><td>2, of 23 to 100 pictures</td>",
        "<td>exact copies</td><td>7</td>",
        "<td>unreadable</td><td>2</td>",
        "<td>first unreadable</td><td>a/b.png: no picture, c.png: empty</td>",
    ):
        assert row in text


@pytest.mark.parametrize(
    "piece",
    [
        "<img src='https://a.example/x.png'>",
        "<img src='/x.png'>",
        "<script>1</script>",
        "<link rel='stylesheet' href='x.css'>",
        "<style>@import 'x.css';</style>",
        "<p style='background:url(x.png)'>",
        "<svg><image xlink:href='x.svg'/></svg>",
    ],
)
def test_a_reference_to_the_outside_would_be_noticed(piece: str) -> None:
    assert Page(f"<!doctype html>{piece}").outside
    assert not Page("<img src='data:image/png;base64,AA'><a href='#x'>x</a>").outside
