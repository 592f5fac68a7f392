"""Named arrays as data: one array per input of a graph, first axis samples, perhaps with labels.

A file is taken whole or refused with the array at fault; no sample is dropped, cut or filled in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.core.archives import read_archive, read_arrays
from edgeml.core.signature import ModelSignature, TensorSpec
from edgeml.data.array_checks import (
    LABELS,
    Arrays,
    Targets,
    checked_inputs,
    checked_labels,
    refuse_unusable,
)
from edgeml.data.dataset import Split
from edgeml.errors import DataError, InputError

SYNTHETIC = "synthetic"

_DEFAULT_SIZE = 16
_DEFAULT_VOCABULARY = 2
# Every ten samples of a class: four to select by, three to calibrate on, three to report.
_DEAL = ("validation", "train", "test") * 3 + ("validation",)


@dataclass(frozen=True, kw_only=True)
class ArrayDataset:
    """Samples as named arrays.

    Attributes:
        name: The file's name without its suffix, or ``synthetic``.
        inputs: Input name to array of the dtype that the model declares, first axis samples.
        targets: int64 ``(samples,)``, class indices; bool ``(samples, classes)`` where a sample may
            have several classes or none; None without labels.
        fingerprint: sha256 over names, dtypes, shapes and contents, to recognise the data again.
        place: The file; empty for synthetic data.
    """

    name: str
    inputs: dict[str, npt.NDArray[Any]]
    targets: Targets | None
    fingerprint: str
    place: str = ""

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))


def open_arrays(path: str | Path, signature: ModelSignature) -> ArrayDataset:
    """Open an ``.npz`` file as data for a model.

    Args:
        path: A file with one array per input by name, first axis samples, and perhaps ``labels``:
            class indices ``(samples,)``, or truth values ``(samples, classes)`` of a model that
            gives several. An input that is itself called ``labels`` is an input.
        signature: Inputs of the model.

    Raises:
        DataError: It is no such file, an array is missing, unknown, of a wrong shape or dtype or
            holds NaN or infinity, the labels are no classes, or there are fewer than 20 samples.
    """
    place = Path(path)
    try:
        arrays = read_archive(place)
        labels = None if _has_labels_input(signature) else arrays.pop(LABELS, None)
        inputs = checked_inputs(arrays, signature)
        refuse_unusable(inputs)
        count = len(next(iter(inputs.values())))
        targets = None if labels is None else checked_labels(labels, count)
    except InputError as exc:
        raise DataError(source=str(path), reason=str(exc)) from exc
    return ArrayDataset(
        name=place.stem,
        inputs=inputs,
        targets=targets,
        fingerprint=arrays_fingerprint(inputs, targets),
        place=str(path),
    )


def read_samples(
    source: str | Path | bytes, signature: ModelSignature, *, name: str
) -> dict[str, npt.NDArray[Any]]:
    """Read samples to answer: any number of them, whose values are for the task to judge.

    Args:
        source: An ``.npz`` file as for :func:`open_arrays`, whose labels are left out, or for a
            model with one input an ``.npy`` file; a path, or the contents.
        signature: Inputs of the model.
        name: What to call the source in errors.

    Raises:
        DataError: It is no such file, or an array is missing, unknown or of a wrong shape or dtype.
    """
    plain = source if isinstance(source, bytes) else Path(source)
    try:
        if len(signature.inputs) == 1:
            arrays = read_arrays(plain, single=signature.inputs[0].name)
        else:
            arrays = read_archive(plain)
        if not _has_labels_input(signature):
            arrays.pop(LABELS, None)
        return checked_inputs(arrays, signature)
    except InputError as exc:
        raise DataError(source=name, reason=str(exc)) from exc


def make_array_split(dataset: ArrayDataset, *, seed: int) -> Split:
    """Split samples, seeded: 30 % to calibrate on, 40 % to select by, 30 % to report on.

    Samples whose inputs are equal stay together; each class is dealt out by the same shares, equal
    samples with contradicting labels counting for the first. Several classes a sample are split
    without regard to them.

    Args:
        dataset: What to split.
        seed: Seed of the shuffle.

    Returns:
        Three disjoint parts, called train, validation and test, none of which shares a sample with
        another.

    Raises:
        DataError: There are fewer than three distinct samples.
    """
    _, first, group_of = np.unique(
        row_hashes(dataset.inputs), return_index=True, return_inverse=True
    )
    if len(first) < len(set(_DEAL)):
        reason = (
            f"it has {len(first)} distinct samples; at least {len(set(_DEAL))} were expected, one "
            "each to calibrate, to select and to report; add samples"
        )
        raise DataError(source=dataset.place or dataset.name, reason=reason)
    order = np.random.default_rng(seed).permutation(len(first))
    if dataset.targets is not None and dataset.targets.ndim == 1:
        order = order[np.argsort(dataset.targets[first[order]], kind="stable")]
    part_of = np.empty(len(first), dtype=object)
    part_of[order] = np.resize(np.array(_DEAL, dtype=object), len(first))
    drawn = part_of[group_of.reshape(-1)]
    parts = {name: np.flatnonzero(drawn == name).astype(np.int64) for name in set(_DEAL)}
    return Split(train=parts["train"], validation=parts["validation"], test=parts["test"])


def synthetic_arrays(
    signature: ModelSignature,
    *,
    num_samples: int,
    seed: int,
    vocabulary: Mapping[str, int] | None = None,
    sizes: Mapping[str, int] | None = None,
) -> ArrayDataset:
    """Make seeded samples for a model that comes without data.

    Floats are standard normal, uint8 is 0 to 255, other integers are below the input's vocabulary,
    truth values are even.

    Args:
        signature: Inputs of the model.
        num_samples: How many samples.
        seed: Seed of the values.
        vocabulary: Input name to how many integers it knows; 2 for an input without one.
        sizes: Name of a free axis to its size; 16 for an axis without one.

    Returns:
        Data called ``synthetic``, without labels.
    """
    rng = np.random.default_rng(seed)
    known, lengths = vocabulary or {}, sizes or {}
    inputs = {}
    for spec in signature.inputs:
        rest = (
            axis if isinstance(axis, int) else lengths.get(axis, _DEFAULT_SIZE)
            for axis in spec.shape[1:]
        )
        inputs[spec.name] = _drawn(rng, spec, (num_samples, *rest), known.get(spec.name))
    return ArrayDataset(
        name=SYNTHETIC, inputs=inputs, targets=None, fingerprint=arrays_fingerprint(inputs, None)
    )


def row_hashes(inputs: Arrays) -> npt.NDArray[np.uint64]:
    """Return a 64-bit hash of each sample over all its inputs, uint64 ``(samples,)``."""
    arrays = [np.ascontiguousarray(inputs[name]) for name in sorted(inputs)]

    def digest(row: int) -> int:
        state = hashlib.blake2b(digest_size=8)
        for array in arrays:
            state.update(array[row].tobytes())
        return int.from_bytes(state.digest(), "big")

    return np.fromiter(map(digest, range(len(arrays[0]))), np.uint64)


def arrays_fingerprint(inputs: Arrays, targets: Targets | None) -> str:
    """Return the sha256 over names, dtypes, shapes and contents of inputs and labels."""
    digest = hashlib.sha256()
    named = [(name, inputs[name]) for name in sorted(inputs)]
    for name, array in (*named, *([] if targets is None else [("", targets)])):
        head = f"{name}\0{array.dtype.name}\0{array.shape}".encode("utf-8", "surrogatepass")
        digest.update(len(head).to_bytes(8, "big") + head)
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)  # no copy
    return digest.hexdigest()


def _has_labels_input(signature: ModelSignature) -> bool:
    return any(spec.name == LABELS for spec in signature.inputs)


def _drawn(
    rng: np.random.Generator, spec: TensorSpec, shape: tuple[int, ...], vocabulary: int | None
) -> npt.NDArray[Any]:
    wanted = np.dtype(spec.dtype)
    if wanted.kind == "f":
        return rng.standard_normal(shape).astype(wanted)
    if wanted.kind == "b":
        return rng.integers(0, 2, shape).astype(wanted)
    known = vocabulary or (256 if spec.dtype == "uint8" else _DEFAULT_VOCABULARY)
    highest = min(max(known, 1) - 1, int(np.iinfo(wanted).max))
    return rng.integers(0, highest, shape, dtype=wanted, endpoint=True)
