"""The files that an evaluation leaves, from which every figure can be computed again.

``split.npz`` holds who had what in which part, as codes, and the ids behind the codes.
``top10.npz`` holds each system's lists and, where a log of impressions was judged, its scores.
Both are plain arrays; nobody need have edgeml to read them.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.errors import DataError
from edgeml.recommending.retrieval.histories import Histories, IntArray

PARTS = ("train", "validation", "test")
_LISTS, _SCORES = "items_", "scores_"


@dataclass(frozen=True, kw_only=True)
class SplitRecord:
    """Who had what in which part.

    Attributes:
        parts: Part (``train``, ``validation``, ``test``) to int64 user and item codes ``(rows,)``.
            Only rows that count as relevant: positives.
        user_ids: str ``(num_users,)``, by code.
        item_ids: str ``(num_items,)``, by code; the catalogue at the time of training.
    """

    parts: Mapping[str, tuple[IntArray, IntArray]]
    user_ids: Sequence[str]
    item_ids: Sequence[str]

    def histories(self, *parts: str) -> Histories:
        """Return the users' items in some parts, one row a user code."""
        users = np.concatenate([self.parts[part][0] for part in parts])
        items = np.concatenate([self.parts[part][1] for part in parts])
        num_users = max(len(self.user_ids), int(users.max(initial=0)) + 1)
        return Histories.by_user(users, items, num_users=num_users)


@dataclass(frozen=True, kw_only=True)
class TopRecord:
    """What each system answered.

    Attributes:
        users: int64 ``(users,)``: the user codes that were asked for.
        lists: System to int64 ``(users, k)`` item codes, best first, 0 being an empty place.
        impression_users: int64 ``(rows,)`` of the judged log of impressions, or empty.
        impression_labels: 0 or 1 ``(rows,)``.
        scores: System to float32 ``(rows,)``.
    """

    users: IntArray
    lists: Mapping[str, IntArray]
    impression_users: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    impression_labels: npt.NDArray[Any] = field(default_factory=lambda: np.zeros(0, np.int8))
    scores: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)


def write_split(path: Path, record: SplitRecord) -> None:
    """Write ``split.npz``."""
    arrays: dict[str, Any] = {
        "user_ids": np.asarray(record.user_ids, dtype=np.str_),
        "item_ids": np.asarray(record.item_ids, dtype=np.str_),
    }
    for part in PARTS:
        arrays[f"{part}_users"], arrays[f"{part}_items"] = record.parts[part]
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)


def read_split(path: Path) -> SplitRecord:
    """Read ``split.npz``.

    Raises:
        DataError: The file is missing, damaged, or lacks an array.
    """
    arrays = _arrays(path)
    try:
        return SplitRecord(
            parts={part: (arrays[f"{part}_users"], arrays[f"{part}_items"]) for part in PARTS},
            user_ids=arrays["user_ids"].tolist(),
            item_ids=arrays["item_ids"].tolist(),
        )
    except KeyError as exc:
        raise DataError(source=str(path), reason=f"it lacks the array {exc}; run again") from exc


def write_top(path: Path, record: TopRecord) -> None:
    """Write ``top10.npz``."""
    arrays: dict[str, Any] = {
        "users": record.users,
        "impression_users": record.impression_users,
        "impression_labels": record.impression_labels,
    }
    arrays |= {_LISTS + system: items for system, items in record.lists.items()}
    arrays |= {_SCORES + system: scores for system, scores in record.scores.items()}
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)


def read_top(path: Path) -> TopRecord:
    """Read ``top10.npz``.

    Raises:
        DataError: The file is missing, damaged, or lacks an array.
    """
    arrays = _arrays(path)

    def starting(prefix: str) -> dict[str, Any]:
        return {
            name.removeprefix(prefix): values
            for name, values in arrays.items()
            if name.startswith(prefix)
        }

    try:
        return TopRecord(
            users=arrays["users"],
            lists=starting(_LISTS),
            impression_users=arrays["impression_users"],
            impression_labels=arrays["impression_labels"],
            scores=starting(_SCORES),
        )
    except KeyError as exc:
        raise DataError(source=str(path), reason=f"it lacks the array {exc}; run again") from exc


def _arrays(path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as exc:
        raise DataError(
            source=str(path), reason=f"it cannot be read ({exc}); run the evaluation again"
        ) from exc
