"""What a folder of pictures holds, before anything is trained on it: classes, copies, oddities.

Two pictures are exact copies when their files, or arrays, are equal byte for byte; near copies are
those of :mod:`edgeml.data.near_copies`.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.data.dataset import ImageDataset, Split
from edgeml.data.near_copies import linked_copies
from edgeml.errors import DataError

Indices = npt.NDArray[np.int64]

# The comparison of all with all is over the square of this.
_MOST_COMPARED = 20_000
_NEARLY_BLACK = 16


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


def survey_images(dataset: ImageDataset, images: npt.NDArray[np.uint8], samples: Indices) -> Survey:
    """Look for copies among pictures, and count what a report should say.

    Args:
        dataset: The pictures' names, classes and hashes.
        images: uint8 ``(pictures, height, width, 3)``, prepared.
        samples: int64 ``(pictures,)``, which sample each picture is; -1 for one to pass over.
    """
    total = len(dataset.targets)
    exact = _exact(dataset)
    near = exact
    rows = np.flatnonzero(samples >= 0)
    # A publisher's parts are kept as they are; what is drawn beside them is as much ours as any.
    drawn = dataset.fixed_validation is None or dataset.fixed_test is None
    compared = len(rows) <= _MOST_COMPARED and (drawn or not dataset.published)
    if compared:
        near = _joined(total, samples[linked_copies(images, rows)], exact)
    counts = np.bincount(dataset.targets, minlength=len(dataset.labels))
    findings = {
        "samples": total,
        "classes": dict(zip(dataset.labels, counts.tolist(), strict=True)),
        "imbalance": float(counts.max() / max(1, counts.min())),
        "exact_copies": total - len(np.unique(exact)),
        "near_copies": len(np.unique(exact)) - len(np.unique(near)),
        "near_copies_looked_for": compared,
        "contradictions": _contradictions(exact, dataset.targets),
        "nearly_black": sum(int(images[row].max() <= _NEARLY_BLACK) for row in rows.tolist()),
        **dataset.odd,
    }
    return Survey(exact=exact, near=near, findings=findings)


def merge_groups(clusters: Indices, groups: Indices | None) -> Indices:
    """Return int64 ``(samples,)`` clusters after those that share a group were joined."""
    if groups is None:
        return clusters
    order = np.argsort(groups, kind="stable")
    same = groups[order][1:] == groups[order][:-1]
    pairs = np.column_stack([order[1:][same], order[:-1][same]])
    return _joined(len(clusters), pairs, clusters)


def leaks_of(
    dataset: ImageDataset,
    survey: Survey,
    split: Split,
    *,
    parts: Container[str] = ("validation", "test"),
) -> dict[str, int]:
    """Count the held-out pictures with a copy or a member of their group in another part.

    Args:
        dataset: What was split.
        survey: Its copies.
        split: Its parts.
        parts: Whose pictures are counted: the validation part's beside training, the test part's
            beside both.

    Returns:
        ``exact``, ``near`` (the exact ones are among them) and, where there are groups, ``group``
        to pictures of these parts.
    """
    kinds = {"exact": survey.exact, "near": survey.near}
    if dataset.groups is not None:
        kinds["group"] = dataset.groups
    found = {}
    for kind, clusters in kinds.items():
        train, held = clusters[split.train], clusters[split.validation]
        found[kind] = 0
        if "validation" in parts:
            found[kind] += int(np.isin(held, train).sum())
        if "test" in parts:
            others = np.concatenate([train, held])
            found[kind] += int(np.isin(clusters[split.test], others).sum())
    return found


def refuse_leaks(name: str, leaks: Mapping[str, int]) -> None:
    """Refuse a split whose parts share pictures.

    Args:
        name: Of the data.
        leaks: What :func:`leaks_of` counted.

    Raises:
        DataError: Some are shared; the message counts them.
    """
    counts = {
        "are copies": leaks["exact"],
        "are near copies": leaks["near"] - leaks["exact"],
        "are of the same group": leaks.get("group", 0),
    }
    found = [f"{count} {what}" for what, count in counts.items() if count]
    if found:
        reason = (
            f"of the pictures to judge by, {' and '.join(found)} of pictures in another part; "
            "parts that share none were expected; mend the split, or pass --allow-leaks and "
            "distrust the accuracy"
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


def _joined(total: int, pairs: Indices, clusters: Indices) -> Indices:
    """Return clusters after the members of each pair were put into one."""
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
