"""A split of pictures in which copies do not straddle parts, as far as one can be made.

Near copies stay together unless that leaves no split, or they are pictures of a camera that stands
still. Exact copies and the user's groups always do, unless leaks are allowed and nothing else is
possible.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from edgeml.data.dataset import ImageDataset, Split, make_split
from edgeml.data.image_survey import Survey, merge_groups
from edgeml.errors import DataError

Indices = npt.NDArray[np.int64]
Kept = Literal["near copies", "exact copies", "groups", "nothing"]

_LARGE_COUNT = 20
_LARGE_SHARE = 0.1
_MOST_OF_A_CLASS = 0.5


def without_fixed_cameras(dataset: ImageDataset, survey: Survey) -> Survey:
    """Return the survey, without the near copies that tell of a camera that stands still.

    A cluster does where two of three hold: it is large (over 20 pictures and over a tenth of the
    smallest class), it holds over half of a class, it holds several classes. Such pictures differ
    by what is to be learnt. Copies of one picture are of one class, and are few beside the class.
    """
    _, cluster = np.unique(survey.near, return_inverse=True)
    pairs, counts = np.unique(
        np.column_stack([cluster, dataset.targets]), axis=0, return_counts=True
    )
    per_class = np.bincount(dataset.targets, minlength=len(dataset.labels))
    large = np.bincount(cluster) > max(_LARGE_COUNT, _LARGE_SHARE * per_class.min())
    most = np.zeros(len(large), dtype=bool)
    most[pairs[counts > _MOST_OF_A_CLASS * per_class[pairs[:, 1]], 0]] = True
    mixed = np.bincount(pairs[:, 0]) > 1
    camera = large.astype(np.int64) + most + mixed >= 2
    if not camera.any():
        return survey
    return replace(survey, near=np.where(camera[cluster], survey.exact, survey.near))


def split_images(
    dataset: ImageDataset,
    survey: Survey,
    *,
    seed: int,
    shares: tuple[float, float | None],
    excluded: Indices | None,
    allow_leaks: bool,
) -> tuple[Split, Kept]:
    """Split pictures so that copies stay in one part.

    Args:
        dataset: What to split.
        survey: Its copies.
        seed: Seed of the shuffle.
        shares: Of the validation part, and of the test part or None; see
            :func:`edgeml.data.dataset.make_split`.
        excluded: int64 indices that no part may use, or None.
        allow_leaks: Whether a split that parts exact copies, or even groups, is made where no
            other one is possible.

    Returns:
        The split, and the most that it keeps together: near copies, with them the exact ones and
        the groups; exact copies and groups; the user's groups alone; or nothing.

    Raises:
        DataError: A class has too few pictures, or too few that can be told apart.
    """
    groups = dataset.groups
    ways: list[tuple[Kept, Indices]] = [
        ("near copies", merge_groups(survey.near, groups)),
        ("exact copies", merge_groups(survey.exact, groups)),
    ]
    if allow_leaks and groups is not None:
        ways.append(("groups", groups))
    if allow_leaks:
        ways.append(("nothing", np.arange(len(dataset.targets))))

    def split(together: Indices) -> Split:
        return make_split(
            dataset,
            seed=seed,
            validation_share=shares[0],
            test_share=shares[1],
            keep_together=together,
            excluded=excluded,
        )

    *better, (last, together) = ways
    for kept, clusters in better:
        with contextlib.suppress(DataError):
            return split(clusters), kept
    return split(together), last
