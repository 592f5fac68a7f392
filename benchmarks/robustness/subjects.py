"""The models that are put under strain: tiny, and of every kind that a repository can hold."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edgeml.core.bundle import Bundle
from edgeml.core.signature import Tensors
from edgeml.serving.repository.options import ServingOptions
from edgeml.serving.repository.publish import publish_bundle
from tests.unit.serving.tiny_bundle import make_lookup_bundle, make_tiny_bundle
from tests.unit.serving.tiny_text import GOLDEN_TEXTS, make_text_bundle


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One model and requests whose answers are known.

    Attributes:
        model: Its name.
        feeds: Inputs of one request each.
        answers: Outputs of each, from ONNX Runtime in this process where the model is one graph.
            Of ensembles they are what the quiet server answers, so None here.
    """

    model: str
    feeds: Sequence[Tensors]
    answers: Sequence[Tensors] | None


def make_subjects(root: Path, *, repository: Path) -> list[Subject]:
    """Make bundles below a folder and publish them; return the models.

    Pixels, ids and floats with an embedding, ids with free axes, strings, and picture files.
    """
    tiny = make_tiny_bundle(root / "tiny.bundle")
    lookup = make_lookup_bundle(root / "lookup.bundle")
    text = make_text_bundle(root / "sentiment.bundle")
    publish_bundle(tiny, repository, options=ServingOptions(encoded=True))
    publish_bundle(lookup, repository)
    publish_bundle(text, repository)
    strings = [{"text": _strings([value.encode()])} for value in GOLDEN_TEXTS]
    pictures = [{"encoded": _strings([_png(number)])} for number in range(4)]
    return [
        _of_graph("tiny", tiny, "int8"),
        _of_graph("lookup", lookup, "fp32"),
        _of_graph("sentiment", text, "fp32"),
        Subject(model="sentiment_text", feeds=strings, answers=None),
        Subject(model="tiny_encoded", feeds=pictures, answers=None),
    ]


def _of_graph(model: str, bundle: Bundle, variant: str) -> Subject:
    golden = bundle.golden()
    count = len(next(iter(golden.tensors.values())))
    slices = [slice(row, row + 1) for row in range(count)] + [slice(0, count)]
    return Subject(
        model=model,
        feeds=[_cut(golden.tensors, part) for part in slices],
        answers=[_cut(golden.outputs[variant], part) for part in slices],
    )


def _cut(tensors: Any, part: slice) -> Tensors:
    return {name: np.asarray(array)[part] for name, array in tensors.items()}


def _strings(values: list[bytes]) -> Any:
    return np.array([[value] for value in values], dtype=np.object_)


def _png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (10, 9, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()
