"""A labelled set of pictures, where it came from, and its split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.errors import DataError

_MIN_PER_CLASS = 3


@dataclass(frozen=True, kw_only=True)
class ImageDataset:
    """Pictures and their classes.

    Attributes:
        name: A named set, or the folder's name.
        labels: Class names in index order.
        items: What the image task accepts: paths or uint8 arrays.
        targets: int64 ``(samples,)``, indices into ``labels``.
        fingerprint: sha256 over names and contents, to recognise the same data again.
        source: Where the data came from, for reports.
        fixed_test: int64 indices of the test split that the set itself defines, or None.
    """

    name: str
    labels: tuple[str, ...]
    items: Sequence[Any] | npt.NDArray[np.uint8]
    targets: npt.NDArray[np.int64]
    fingerprint: str
    source: Mapping[str, str] = field(default_factory=dict)
    fixed_test: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True, kw_only=True)
class Split:
    """Disjoint int64 indices: to fit on, to choose by, to report once."""

    train: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]

    def sizes(self) -> dict[str, int]:
        """Return the number of samples of each part."""
        return {
            "train": len(self.train),
            "validation": len(self.validation),
            "test": len(self.test),
        }


def make_split(dataset: ImageDataset, *, seed: int, validation_share: float = 1 / 12) -> Split:
    """Split each class by the same shares, seeded; a test split that the set defines is kept.

    Args:
        dataset: What to split.
        seed: Seed of the shuffle.
        validation_share: Share of what is not test; also the share of test where the set defines
            none.

    Returns:
        Three disjoint parts, each with every class.

    Raises:
        DataError: A class has too few pictures to be in every part.
    """
    rng = np.random.default_rng(seed)
    fixed = dataset.fixed_test
    free = np.ones(len(dataset.targets), dtype=bool)
    if fixed is not None:
        free[fixed] = False
    parts: dict[str, list[npt.NDArray[np.int64]]] = {"train": [], "validation": [], "test": []}
    for index, label in enumerate(dataset.labels):
        members = rng.permutation(np.flatnonzero(free & (dataset.targets == index)))
        if len(members) < _MIN_PER_CLASS:
            reason = (
                f"the class '{label}' has {len(members)} pictures; at least {_MIN_PER_CLASS} are "
                "needed, one each to train, to choose and to test; add pictures or remove the class"
            )
            raise DataError(source=dataset.name, reason=reason)
        most = len(members) - 1 if fixed is not None else (len(members) - 1) // 2
        held = min(most, max(1, round(len(members) * validation_share)))
        parts["validation"].append(members[:held])
        parts["test"].append(members[held : 2 * held] if fixed is None else members[:0])
        parts["train"].append(members[2 * held :] if fixed is None else members[held:])
    joined = {name: np.sort(np.concatenate(rows)).astype(np.int64) for name, rows in parts.items()}
    return Split(
        train=joined["train"],
        validation=joined["validation"],
        test=joined["test"] if fixed is None else np.sort(fixed).astype(np.int64),
    )
