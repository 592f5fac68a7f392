"""What is sent: the bundle's golden inputs, or seeded ones where it keeps none."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np

from edgeml.core.archives import write_archive
from edgeml.core.bundle import GOLDEN, Bundle
from edgeml.core.predictor import Prediction, Predictor
from edgeml.errors import BundleError
from edgeml.workflows.loading import task_of

_WORDS = ("the", "order", "came", "late", "and", "a", "small", "part", "was", "missing", "again")
_RTOL, _ATOL = 1e-2, 1e-3


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Items in two forms.

    Attributes:
        items: What ``predict`` takes.
        bodies: Each as it travels over HTTP: a picture's file, a text, an archive of arrays.
        kinds: Content type of each body.
        origin: ``golden`` or ``synthetic``.
    """

    items: tuple[Any, ...]
    bodies: tuple[bytes, ...]
    kinds: tuple[str, ...]
    origin: str


def samples_of(bundle: Bundle) -> Samples:
    """Return the samples of a bundle, the same in every process.

    Raises:
        BundleError: The bundle has no golden examples, or is of a task without items.
    """
    if GOLDEN not in bundle.manifest.files:
        reason = "it has no golden examples, which would be sent; export it again"
        raise BundleError(path=str(bundle.path), reason=reason)
    golden = bundle.golden()
    task, named = task_of(bundle), bundle.manifest.task
    if golden.inputs:
        files = [bundle.open_file(name) for name in golden.inputs]
        items = tuple(task.decode_golden(contents) for contents in files)
        kinds = tuple(_kind_of(named, name) for name in golden.inputs)
        return Samples(items=items, bodies=tuple(files), kinds=kinds, origin="golden")
    items = _made(named, golden.tensors)
    return Samples(
        items=items,
        bodies=tuple(_body_of(item) for item in items),
        kinds=tuple(_kind_of(named, "x.png") for _ in items),
        origin="synthetic",
    )


def answer_of(prediction: Prediction) -> Any:
    """Return what is compared of an answer: the label, or the outputs."""
    if prediction.outputs is None:
        return prediction.label
    return {name: np.asarray(array) for name, array in prediction.outputs.items()}


def expected_of(predictor: Predictor, samples: Samples) -> list[Any]:
    """Return the right answers, which are those of the same variant in this process.

    As JSON values: a target is made in another process.
    """
    answers = [answer_of(predictor.predict(item)) for item in samples.items]
    return [
        {name: array.tolist() for name, array in answer.items()}
        if isinstance(answer, dict)
        else answer
        for answer in answers
    ]


def same_answer(expected: Any, answer: Any) -> bool:
    """Return whether an answer is the expected one: labels alike, outputs near each other."""
    if not isinstance(expected, Mapping):
        return bool(expected == answer)
    if not isinstance(answer, Mapping) or set(expected) != set(answer):
        return False
    return all(
        np.shape(expected[name]) == np.shape(answer[name])
        and np.allclose(expected[name], answer[name], rtol=_RTOL, atol=_ATOL)
        for name in expected
    )


def same_batch(expected: Sequence[Any], answers: Sequence[Any]) -> bool:
    """Return whether the answers of one query are the expected ones, in their order."""
    return len(expected) == len(answers) and all(map(same_answer, expected, answers))


def _kind_of(task: str, name: str) -> str:
    if task == "text-classification":
        return "text/plain; charset=utf-8"
    if task == "tensor":
        return "application/x-npz"
    suffix = PurePath(name).suffix.lower().removeprefix(".")
    return f"image/{'jpeg' if suffix == 'jpg' else suffix or 'png'}"


def _body_of(item: Any) -> bytes:
    if isinstance(item, str):
        return item.encode()
    if isinstance(item, bytes):
        return item
    return write_archive(item)


def _made(task: str, tensors: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return items as large as the golden tensors."""
    count = len(next(iter(tensors.values())))
    if task == "tensor":
        return tuple({name: array[row] for name, array in tensors.items()} for row in range(count))
    if task == "text-classification":
        rng = np.random.default_rng(0)
        lengths = [int(row.sum()) for row in tensors["attention_mask"]]
        return tuple(" ".join(rng.choice(_WORDS, max(1, length - 2))) for length in lengths)
    from PIL import Image

    files = []
    for pixels in next(iter(tensors.values())):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, format="PNG")
        files.append(file.getvalue())
    return tuple(files)
