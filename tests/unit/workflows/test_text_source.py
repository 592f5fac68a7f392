"""What a text export makes of its data, before anything is measured."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeml.data.dataset import TextDataset
from edgeml.errors import ExportError, InputError
from edgeml.exporting.from_transformers import trace_text_model
from edgeml.training.encoders import find_encoder
from edgeml.workflows.hugging_face_source import _load, match_labels
from tests.small_text import make_encoder

TEXTS = TextDataset(
    name="t",
    labels=("US", "us"),
    items=("a", "b", "c"),
    targets=np.array([0, 1, 1]),
    fingerprint="f",
)


@pytest.mark.parametrize(
    ("labels", "targets"),
    [(("us", "US"), [1, 0, 0]), (("US", "us", "x"), [0, 1, 1])],
    ids=["other-order", "one-more"],
)
def test_labels_that_differ_in_case_alone_are_told_apart(
    labels: tuple[str, ...], targets: list[int]
) -> None:
    matched = match_labels(TEXTS, labels)
    assert (matched.labels, matched.targets.tolist()) == (labels, targets)


def test_labels_of_another_case_are_matched() -> None:
    data = replace(TEXTS, labels=("Bad", "GOOD"))
    assert match_labels(data, ("good", "bad")).targets.tolist() == [1, 0, 0]


def test_a_classifier_without_a_head_is_refused(tmp_path: Any) -> None:
    encoder = find_encoder(str(make_encoder(tmp_path / "tiny")))
    with pytest.raises(InputError, match=r"tiny: .*lacks \d+ tensors.*download it again"):
        _load(encoder, num_labels=2)


def test_weights_beyond_one_file_are_refused() -> None:
    huge = SimpleNamespace(numel=lambda: 560_000_000, element_size=lambda: 4)
    with pytest.raises(ExportError, match=r"weights are 2\.2 GB; at most 2\.0"):
        trace_text_model(SimpleNamespace(parameters=lambda: [huge]))
