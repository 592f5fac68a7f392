"""Whether named arrays are data for a model: names, dtypes, shapes, values and labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.core.conversion import as_declared
from edgeml.core.signature import ModelSignature, TensorSpec
from edgeml.errors import InputError

LABELS = "labels"
MIN_SAMPLES = 20

Arrays = Mapping[str, npt.NDArray[Any]]
Targets = npt.NDArray[np.int64] | npt.NDArray[np.bool_]


def checked_inputs(arrays: Arrays, signature: ModelSignature) -> dict[str, npt.NDArray[Any]]:
    """Check named arrays against a model's inputs.

    Args:
        arrays: Name to array, first axis samples.
        signature: Inputs of the model.

    Returns:
        Every input in the signature's order, of its dtype and contiguous.

    Raises:
        InputError: One is missing, unknown, of a wrong dtype, rank or axis, two disagree about an
            axis or the number of samples, or there is no sample.
    """
    wanted = [spec.name for spec in signature.inputs]
    expected = ", ".join(f"'{name}'" for name in wanted)
    for what, names in (
        ("has no array", [name for name in wanted if name not in arrays]),
        ("has an unknown array", [name for name in arrays if name not in wanted]),
    ):
        if names:
            raise InputError(
                f"it {what} '{names[0]}'; the model's inputs are {expected}, and only '{LABELS}' "
                "may stand beside them; name the arrays after the inputs"
            )
    inputs: dict[str, npt.NDArray[Any]] = {}
    sizes: dict[str, tuple[int, str]] = {}
    for spec in signature.inputs:
        array = as_declared(arrays[spec.name], spec)
        _check_shape(array, spec, sizes)
        inputs[spec.name] = np.ascontiguousarray(array)
    counts = {name: len(array) for name, array in inputs.items()}
    if len(set(counts.values())) != 1:
        found = ", ".join(f"'{name}' {count}" for name, count in counts.items())
        raise InputError(
            f"its arrays have different numbers of samples ({found}); one number was expected; "
            "check the first axes"
        )
    if not counts[wanted[0]]:
        raise InputError("it holds no sample; at least one was expected; check the first axes")
    return inputs


def _check_shape(
    array: npt.NDArray[Any], spec: TensorSpec, sizes: dict[str, tuple[int, str]]
) -> None:
    """Refuse a rank or an axis that does not fit; ``sizes``: free axes so far, and whose."""
    fits = array.ndim == len(spec.shape) and all(
        isinstance(axis, str) or axis == size
        for axis, size in zip(spec.shape[1:], array.shape[1:], strict=True)
    )
    if not fits:
        raise InputError(
            f"its array '{spec.name}' has the shape {array.shape}; {spec.describe()} was expected, "
            "the first axis the samples; reshape it"
        )
    for axis, size in zip(spec.shape[1:], array.shape[1:], strict=True):
        if isinstance(axis, int) or axis == spec.shape[0]:
            continue
        known, whose = sizes.setdefault(axis, (size, spec.name))
        if known != size:
            raise InputError(
                f"its arrays '{whose}' and '{spec.name}' have {known} and {size} on the axis "
                f"'{axis}', which they share; one size was expected; check the shapes"
            )


def refuse_unusable(inputs: Arrays) -> None:
    """Refuse what nothing can be proven on.

    Args:
        inputs: From :func:`checked_inputs`.

    Raises:
        InputError: There are fewer than 20 samples, or a number is NaN or infinite.
    """
    count = len(next(iter(inputs.values())))
    if count < MIN_SAMPLES:
        raise InputError(
            f"it holds {count} samples; at least {MIN_SAMPLES} were expected, to calibrate, to "
            "select and to report; add samples"
        )
    for name, array in inputs.items():
        row = next((row for row in range(count) if not _is_finite(array[row])), None)
        if row is not None:
            raise InputError(
                f"its array '{name}' holds NaN or infinity at sample {row}; finite numbers were "
                "expected; remove or fill them"
            )


def _is_finite(sample: npt.NDArray[Any]) -> bool:
    return sample.dtype.kind != "f" or bool(np.isfinite(sample).all())


def checked_labels(labels: npt.NDArray[Any], count: int) -> Targets:
    """Check labels.

    Args:
        labels: ``(samples,)``, whole numbers from 0; or ``(samples, classes)``, 0 and 1.
        count: How many samples there are.

    Returns:
        int64 ``(samples,)``; or bool ``(samples, classes)`` where a sample has several.

    Raises:
        InputError: They are none of these.
    """
    table = labels.ndim == 2 and labels.shape[1] > 1
    if not (labels.ndim == 1 or table) or len(labels) != count:
        raise InputError(
            f"its labels have the shape {labels.shape}; ({count},) or ({count}, classes) with at "
            "least two classes was expected; reshape them"
        )
    whole = labels.dtype.kind in "biu" or (
        labels.dtype.kind == "f"
        and bool(np.isfinite(labels).all())
        and bool((labels == np.floor(labels)).all())
    )
    if not whole or int(labels.max()) > np.iinfo(np.int64).max:
        raise InputError(
            f"its labels are {labels.dtype.name} and no class indices; whole numbers from 0 were "
            "expected; number the classes"
        )
    if labels.min() < 0:
        raise InputError(
            f"its labels hold {int(labels.min())}; whole numbers from 0 were expected; number the "
            "classes from 0"
        )
    if labels.ndim == 1:
        return labels.astype(np.int64)
    if labels.max() > 1:
        raise InputError(
            f"its labels are a table that holds {int(labels.max())}; 0 and 1, whether each class "
            "holds, were expected; give one index a sample, or truth values"
        )
    return labels.astype(np.bool_)
