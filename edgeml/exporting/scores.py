"""Which output of a graph from elsewhere holds class scores, and in which form.

Labels settle it where there are any. Without them an output counts as class scores if its rows are
probabilities, or if its name says so; anything else is values, which are compared by their error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.errors import InputError
from edgeml.exporting.answers import Form, Reading

_NAMED = re.compile(r"logit|prob|score|class|pred|label", re.IGNORECASE)
_SLACK = 1e-3


def find_scores(
    outputs: Mapping[str, npt.NDArray[Any]],
    targets: npt.NDArray[Any] | None,
    *,
    wanted: str,
) -> Reading:
    """Decide how a model's outputs are read.

    Args:
        outputs: Output name to array, batch first, of some real samples.
        targets: int64 ``(samples,)``, bool ``(samples, classes)`` or None, of the whole data.
        wanted: ``classes``, ``values`` or ``auto``.

    Raises:
        InputError: The labels, or ``classes``, fit no output.
    """
    names = list(outputs)
    scores = "" if wanted == "values" and targets is None else _scores(outputs, targets, wanted)
    if not scores:
        return Reading(scores="", values=tuple(names))
    return Reading(
        scores=scores,
        form=_form(outputs[scores], targets),
        values=tuple(name for name in names if name != scores),
    )


def _scores(
    outputs: Mapping[str, npt.NDArray[Any]], targets: npt.NDArray[Any] | None, wanted: str
) -> str:
    tables = [name for name, array in outputs.items() if _is_table(array)]
    if targets is not None:
        tables = [name for name in tables if _fits(outputs[name], targets)]
        if not tables:
            shapes = ", ".join(f"'{name}' {array.shape[1:]}" for name, array in outputs.items())
            count = targets.shape[1] if targets.ndim == 2 else int(targets.max()) + 1
            raise InputError(
                f"the labels have {count} classes and no output has scores for them ({shapes} a "
                "sample); labels that are positions in an output's last axis were expected; mend "
                "them, or leave them out to compare with fp32 alone"
            )
    elif wanted == "auto":
        tables = [
            name
            for name in tables
            if len(outputs) == 1 and (_sums_to_one(outputs[name]) or _NAMED.search(name))
        ]
    elif not tables:
        raise InputError(
            "no output is a table of class scores, one row a sample; leave out the wish for "
            "classes to compare values"
        )
    named = [name for name in tables if _NAMED.search(name)]
    return (named or tables or [""])[0]


def _is_table(array: npt.NDArray[Any]) -> bool:
    return array.dtype.kind == "f" and array.ndim in (1, 2)


def _columns(array: npt.NDArray[Any]) -> int:
    return array.shape[1] if array.ndim == 2 else 1


def _fits(array: npt.NDArray[Any], targets: npt.NDArray[Any]) -> bool:
    if targets.ndim == 2:
        return bool(_columns(array) == targets.shape[1])
    most = int(targets.max())
    return bool(most < max(2, _columns(array)))


def _form(array: npt.NDArray[Any], targets: npt.NDArray[Any] | None) -> Form:
    inside = bool(array.size) and float(array.min()) >= -_SLACK and float(array.max()) <= 1 + _SLACK
    if targets is not None and targets.ndim == 2:
        return "independent" if inside else "sigmoid"
    if _columns(array) == 1:
        return "binary" if inside else "binary-sigmoid"
    return "probabilities" if _sums_to_one(array) else "softmax"


def _sums_to_one(array: npt.NDArray[Any]) -> bool:
    if array.ndim != 2 or array.shape[1] < 2 or not array.size or float(array.min()) < -_SLACK:
        return False
    apart = float(np.abs(array.astype(np.float64).sum(axis=1) - 1).max())
    return apart <= _SLACK
