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
    counts = np.zeros((int(group_of.max()) + 1, len(labels)), dtype=np.int64)
    np.add.at(counts, (group_of, targets[free]), 1)
    total = counts.sum(axis=0)
    parts = list(shares)
    wanted = np.array([np.maximum(1.0, shares[part] * total) for part in parts])
    wanted[0] = total - wanted[1:].sum(axis=0)
    order = rng.permutation(len(counts))
    order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    had = np.zeros_like(wanted)
    place = np.zeros(len(counts), dtype=np.int64)
    for group in order.tolist():
        row = counts[group]
        held = np.flatnonzero(row)
        lack = (wanted[:, held] - had[:, held]) / np.maximum(wanted[:, held], 1e-9)
        place[group] = int((lack * row[held]).sum(axis=1).argmax())
        had[place[group]] += row
    short = np.flatnonzero((had <= 0).any(axis=0) & (total > 0))
    if len(short):
        label = int(short[0])
        reason = (
            f"the class '{labels[label]}' has {int((counts[:, label] > 0).sum())} distinct groups "
            f"(equal files count as one); at least {len(parts)} that can be told apart are needed, "
            f"one each for {', '.join(parts)}; add pictures, or mend the groups"
        )
        raise DataError(source=name, reason=reason)
    return {part: np.sort(free[place[group_of] == at]) for at, part in enumerate(parts)}
