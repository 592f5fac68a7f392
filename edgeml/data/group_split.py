"""A split that keeps groups of pictures together: of one part, one day, or one file.

Groups are dealt largest first, each to the part that lacks most of its classes in relation to its
share; between equal ones the seed decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edgeml.errors import DataError

Indices = npt.NDArray[np.int64]


def split_groups(
    targets: Indices,
    groups: Indices,
    free: Indices,
    *,
    shares: Mapping[str, float],
    labels: Sequence[str],
    name: str,
    rng: np.random.Generator,
) -> dict[str, Indices]:
    """Deal groups to parts.

    Args:
        targets: int64 ``(samples,)``.
        groups: int64 ``(samples,)``: samples that share a number stay together.
        free: int64 indices of the samples to deal.
        shares: Part to its share; ``train`` first, which gets the rest.
        labels: Class names.
        name: Of the data, for messages.
        rng: Source of chance.

    Returns:
        Part to sorted int64 indices.

    Raises:
        DataError: A class is not in every part, since it has too few groups.
    """
    _, group_of = np.unique(groups[free], return_inverse=True)
    sizes, total = np.bincount(group_of), np.bincount(targets[free], minlength=len(labels))
    # Never groups by classes: of ten thousand classes that alone would be gigabytes.
    members = np.argsort(group_of, kind="stable")
    classes = np.split(targets[free][members], np.cumsum(sizes)[:-1])
    parts = list(shares)
    wanted = np.array([np.maximum(1.0, shares[part] * total) for part in parts])
    wanted[0] = total - wanted[1:].sum(axis=0)
    order = rng.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    had = np.zeros_like(wanted)
    place = np.zeros(len(sizes), dtype=np.int64)
    for group in order.tolist():
        held, counts = np.unique(classes[group], return_counts=True)
        lack = (wanted[:, held] - had[:, held]) / np.maximum(wanted[:, held], 1e-9)
        place[group] = int((lack * counts).sum(axis=1).argmax())
        had[place[group], held] += counts
    short = np.flatnonzero((had <= 0).any(axis=0) & (total > 0))
    if len(short):
        label = int(short[0])
        distinct = len(np.unique(group_of[targets[free] == label]))
        reason = (
            f"the class '{labels[label]}' has {distinct} distinct groups "
            f"(equal files count as one); at least {len(parts)} that can be told apart are needed, "
            f"one each for {', '.join(parts)}; add pictures, mend the groups, or "
            "fine-tune with --allow-leaks and distrust the accuracy"
        )
        raise DataError(source=name, reason=reason)
    return {part: np.sort(free[place[group_of] == at]) for at, part in enumerate(parts)}
