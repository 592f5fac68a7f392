"""What a folder of pictures holds, before anything is trained on it: classes, copies, oddities.

Two pictures are exact copies when their files, or arrays, are equal byte for byte. They are near
copies when 16x16 grey thumbnails of what the model would see correlate by at least 0.985 and differ
by at most 4 of 255 levels on average, brightness aside: recompressed, resized and slightly
brightened copies are found; turned, mirrored and cut ones are not. Thumbnails without contrast tell
nothing and are left to the exact comparison.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgeml.data.dataset import ImageDataset, Split
from edgeml.errors import DataError

Indices = npt.NDArray[np.int64]

_SIDE = 16
_CORRELATION = 0.985
_LEVELS = 4.0
_MIN_CONTRAST = 3.0
# The comparison of all with all is over the square of this.
_MOST_COMPARED = 20_000
_ROWS_AT_ONCE = 2048
# A cluster above this share of a class tells of a camera that stands still, not of copied files.
_LARGEST_SHARE = 0.1
_LARGEST_COUNT = 20


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What was found.

    Attributes:
        exact: int64 ``(samples,)``: pictures that share a number are copies.
        near: The same with near copies; equal to ``exact`` where none were looked for.
        findings: Figures for the report, as JSON values.
    """

    exact: Indices
    near: Indices
    findings: Mapping[str, Any] = field(default_factory=dict)


def survey_images(dataset: ImageDataset, images: npt.NDArray[np.uint8], rows: Indices) -> Survey:
    """Look for copies among pictures, and count what a report should say.

    Args:
        dataset: The pictures' names, classes and hashes.
        images: uint8 ``(pictures, height, width, 3)``, prepared.
        rows: int64 ``(pictures,)``, which sample each picture is.
    """
    total = len(dataset.targets)
    exact = _exact(dataset)
    near = exact.copy()
    compared = len(rows) <= _MOST_COMPARED and dataset.near_copies_matter
    pairs = _near_pairs(images) if compared else np.zeros((0, 2), dtype=np.int64)
    if len(pairs):
        near = _joined(total, rows[pairs], near)
    counts = np.bincount(dataset.targets, minlength=len(dataset.labels))
    findings = {
        "samples": total,
        "classes": dict(zip(dataset.labels, counts.tolist(), strict=True)),
        "imbalance": float(counts.max() / max(1, counts.min())),
        "exact_copies": total - len(np.unique(exact)),
        "near_copies": len(np.unique(exact)) - len(np.unique(near)),
        "near_copies_looked_for": compared,
        "contradictions": _contradictions(exact, dataset.targets),
        **dataset.odd,
    }
    return Survey(exact=exact, near=near, findings=findings)


def groups_to_keep(dataset: ImageDataset, survey: Survey) -> tuple[Indices, bool]:
    """Return what a split must keep together, and whether near copies are in it.

    Groups of the user's and exact copies always are. Near copies are unless one cluster is so large
    that it tells of a fixed camera rather than of copies.
    """
    exact = _merge(survey.exact, dataset.groups)
    _, sizes = np.unique(survey.near, return_counts=True)
    smallest = np.bincount(dataset.targets, minlength=len(dataset.labels)).min()
    if sizes.max() > max(_LARGEST_COUNT, _LARGEST_SHARE * smallest):
        return exact, False
    return _merge(survey.near, exact), True


def leaks_of(dataset: ImageDataset, survey: Survey, split: Split) -> dict[str, int]:
    """Count the held-out pictures with a copy or a member of their group in another part.

    Returns:
        ``exact``, ``near`` and ``group`` to pictures of the validation and test parts.
    """
    kinds = {"exact": survey.exact, "near": survey.near}
    if dataset.groups is not None:
        kinds["group"] = dataset.groups
    found = {}
    for kind, clusters in kinds.items():
        train, held = clusters[split.train], clusters[split.validation]
        shared = int(np.isin(held, train).sum())
        shared += int(np.isin(clusters[split.test], np.concatenate([train, held])).sum())
        found[kind] = shared
    return found


def refuse_leaks(name: str, leaks: Mapping[str, int], *, near: bool) -> None:
    """Refuse a split whose parts share pictures.

    Args:
        name: Of the data.
        leaks: What :func:`leaks_of` counted.
        near: Whether near copies count.

    Raises:
        DataError: Some are shared; the message counts them.
    """
    words = {"exact": "are copies", "near": "are near copies", "group": "are of the same group"}
    found = [
        f"{leaks[kind]} {word}" for kind, word in words.items()
        if leaks.get(kind) and (kind != "near" or near)
    ]  # fmt: skip
    if found:
        reason = (
            f"pictures to judge by {' and '.join(found)} of pictures in another part; parts that "
            "share none were expected; mend the split, or pass --allow-leaks and distrust the "
            "accuracy"
        )
        raise DataError(source=name, reason=reason)


def _exact(dataset: ImageDataset) -> Indices:
    if dataset.hashes is None:
        return np.arange(len(dataset.targets))
    _, first, clusters = np.unique(dataset.hashes, return_index=True, return_inverse=True)
    return first[clusters].astype(np.int64)


def _contradictions(clusters: Indices, targets: Indices) -> int:
    """Count clusters of copies that have several classes."""
    pairs = np.unique(np.column_stack([clusters, targets]), axis=0)
    _, classes = np.unique(pairs[:, 0], return_counts=True)
    return int((classes > 1).sum())


def _near_pairs(images: npt.NDArray[np.uint8]) -> Indices:
    """Return pairs of near copies, int64 ``(pairs, 2)``."""
    thumbs = np.stack([_thumbnail(image) for image in images])
    centred = thumbs - thumbs.mean(axis=1, keepdims=True)
    contrast = centred.std(axis=1, keepdims=True)
    scaled = centred / np.maximum(contrast, 1e-6) / _SIDE
    usable = np.flatnonzero(contrast[:, 0] >= _MIN_CONTRAST)
    scaled = scaled[usable]
    found = []
    for start in range(0, len(usable), _ROWS_AT_ONCE):
        alike = scaled[start : start + _ROWS_AT_ONCE] @ scaled[start:].T
        first, second = np.nonzero(np.triu(alike, 1) >= _CORRELATION)
        pairs = np.column_stack([usable[first + start], usable[second + start]])
        gap = np.abs(centred[pairs[:, 0]] - centred[pairs[:, 1]]).mean(axis=1)
        found.append(pairs[gap <= _LEVELS])
    return np.concatenate(found) if found else np.zeros((0, 2), dtype=np.int64)


def _thumbnail(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    grey = Image.fromarray(image).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.asarray(grey, dtype=np.float32).reshape(-1)


def _merge(clusters: Indices, groups: Indices | None) -> Indices:
    """Join clusters that share a group."""
    if groups is None:
        return clusters
    order = np.argsort(groups, kind="stable")
    same = groups[order][1:] == groups[order][:-1]
    pairs = np.column_stack([order[1:][same], order[:-1][same]])
    return _joined(len(clusters), pairs, clusters)


def _joined(total: int, pairs: Indices, clusters: Indices) -> Indices:
    """Return clusters after the members of each pair were put into one."""
    parent = np.arange(total)
    _, first = np.unique(clusters, return_index=True)
    first_of = dict(zip(clusters[first].tolist(), first.tolist(), strict=True))
    parent = np.array([first_of[value] for value in clusters.tolist()])

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = int(parent[index])
        return index

    for one, other in pairs.tolist():
        a, b = root(one), root(other)
        parent[max(a, b)] = min(a, b)
    return np.array([root(index) for index in range(total)], dtype=np.int64)
