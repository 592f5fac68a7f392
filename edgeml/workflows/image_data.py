"""Pictures to train on: opened, prepared once, looked over for copies, and split without leaks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.core.progress import Progress, ProgressEvent, silent
from edgeml.data.dataset import ImageDataset, Split
from edgeml.data.image_parts import own_parts
from edgeml.data.image_splitting import Kept, split_images, without_fixed_cameras
from edgeml.data.image_survey import Survey, leaks_of, refuse_leaks, survey_images
from edgeml.data.opening import open_image_data, place_of, prepare_usable
from edgeml.errors import DataError
from edgeml.tasks.image import ImagePreprocessing
from edgeml.workflows.image_findings import about_copies, summary

Indices = npt.NDArray[np.int64]

_NONE = np.zeros(0, dtype=np.int64)
_NAMED = 3
# Of few pictures, the share that chooses the epoch.
_HELD_OF_FEW = 0.2


@dataclass(frozen=True, kw_only=True)
class TrainingImages:
    """A data set with its split and its prepared pictures.

    Attributes:
        dataset: The data.
        place: Where it is, for the checkpoint.
        split: Its parts.
        images: uint8 ``(pictures, height, width, 3)``, all but a published test part.
        rows: int64 ``(samples,)``, the picture of each sample; -1 where it was not prepared.
        findings: What a report says of the data, as JSON values.
    """

    dataset: ImageDataset
    place: dict[str, str]
    split: Split = field(default_factory=lambda: Split(train=_NONE, validation=_NONE, test=_NONE))
    images: npt.NDArray[np.uint8] = field(
        default_factory=lambda: np.zeros((0, 1, 1, 3), dtype=np.uint8)
    )
    rows: Indices = field(default_factory=lambda: _NONE)
    findings: Mapping[str, Any] = field(default_factory=dict)

    def rows_of(self, indices: Indices) -> Indices:
        """Return which picture each of these samples is."""
        return self.rows[indices]

    def name_of(self, index: int) -> str:
        """Return what a sample is called: its path in the data, or its number."""
        item = self.dataset.items[index]
        return f"{item.parent.name}/{item.name}" if isinstance(item, Path) else f"#{index}"

    def split_hash(self) -> str:
        """Return a hash of the split, by which another one is told."""
        digest = hashlib.sha256()
        for part in (self.split.train, self.split.validation, self.split.test):
            digest.update(part.astype(np.int64).tobytes() + b"|")
        return digest.hexdigest()

    def fewer(
        self, per_class: int | None, *, seed: int, progress: Progress = silent
    ) -> TrainingImages:
        """Return the same with so many pictures of each class to learn from, or all of them.

        A fifth of them is to choose an epoch by, or less where the validation part has less. All
        of a class are taken that has fewer, which is told and among the findings.
        """
        if per_class is None:
            return self
        rng, targets = np.random.default_rng(seed), self.dataset.targets
        train, validation = (rng.permutation(p) for p in (self.split.train, self.split.validation))
        classes = len(self.dataset.labels)
        held = np.full(classes, max(1, round(_HELD_OF_FEW * per_class)))
        chosen = _first_of_each(validation, targets, held)
        held = np.bincount(targets[chosen], minlength=classes)
        learnt = _first_of_each(train, targets, per_class - held)
        found = held + np.bincount(targets[learnt], minlength=classes)
        short = {
            self.dataset.labels[at]: int(found[at]) for at in np.flatnonzero(found < per_class)
        }
        if short:
            some = ", ".join(
                f"{count} of '{label}'" for label, count in list(short.items())[:_NAMED]
            )
            more = f" and of {len(short) - _NAMED} more classes" if len(short) > _NAMED else ""
            note = f"there are only {some}{more}; {per_class} were asked for, and all are taken"
            progress(ProgressEvent(stage="take fewer pictures", done=1, total=1, note=note))
        split = replace(self.split, train=learnt, validation=chosen)
        findings = {**self.findings, "per_class": per_class, "classes_with_fewer": short}
        return replace(self, split=split, findings=findings)

    def prepared(
        self,
        preprocessing: ImagePreprocessing,
        *,
        seed: int,
        allow_leaks: bool,
        skip_unreadable: bool,
        shares: tuple[float, float | None],
        progress: Progress,
    ) -> TrainingImages:
        """Prepare the pictures, report what they are, and split them.

        Args:
            preprocessing: The contract.
            seed: Seed of the split.
            allow_leaks: Whether given parts that share pictures are reported, not refused, and a
                split that parts copies is made where no other is possible.
            skip_unreadable: Whether pictures that cannot be read are left out, not refused.
            shares: Of the validation part, and of the test part or None.
            progress: Told of each picture, and of what was found.

        Raises:
            DataError: Pictures cannot be read, a class has too few, or parts would share some.
        """
        dataset = self.dataset
        wanted = np.arange(len(dataset.targets))
        if dataset.published and dataset.fixed_test is not None:
            wanted = np.setdiff1d(wanted, dataset.fixed_test)
        images, bad = prepare_usable(dataset, wanted, preprocessing, progress=progress)
        if bad and not skip_unreadable:
            _refuse_unreadable(dataset.name, bad, len(wanted))
        unusable = np.array(sorted(bad), dtype=np.int64)
        survey = survey_images(dataset, images, np.where(np.isin(wanted, unusable), -1, wanted))
        copies = without_fixed_cameras(dataset, survey)
        split, kept = split_images(
            dataset, copies, seed=seed, shares=shares, excluded=unusable, allow_leaks=allow_leaks
        )
        if not allow_leaks and not dataset.published:
            _refuse_shared(dataset, copies, split, kept)
        rows = np.full(len(dataset.targets), -1, dtype=np.int64)
        rows[wanted] = np.arange(len(wanted))
        findings = {
            **survey.findings,
            **own_parts(dataset, split),
            "unreadable": len(bad),
            "first_unreadable": list(bad.values())[:_NAMED],
            "copies_kept_together": kept in ("near copies", "exact copies"),
            "near_copies_kept_together": (
                survey.findings["near_copies_looked_for"]
                and kept == "near copies"
                and copies is survey
            ),
            "shared_between_parts": leaks_of(dataset, survey, split),
        }
        held = len(split.validation) + len(split.test)
        if said := about_copies(findings, held=held, published=dataset.published):
            findings["held_out_copies"] = said
        note = summary(findings)
        progress(ProgressEvent(stage="look at the data", done=1, total=1, note=note))
        return replace(self, split=split, images=images, rows=rows, findings=findings)


def open_training_images(data: str | Path, groups: Path | None) -> TrainingImages:
    """Open data to train on; nothing is decoded yet.

    Raises:
        DataError: There is no such data, or it is unfit.
        InputError: Groups were given for data that brings its own.
    """
    dataset = open_image_data(data, groups=groups)
    return TrainingImages(dataset=dataset, place=place_of(data, groups=groups))


def _refuse_shared(dataset: ImageDataset, copies: Survey, split: Split, kept: Kept) -> None:
    """Refuse parts that share pictures; only near copies in a part that was drawn are excused."""
    leaks = leaks_of(dataset, copies, split)
    if kept != "near copies":  # no split that draws the part can keep them together
        fixed = {"validation": dataset.fixed_validation, "test": dataset.fixed_test}
        own = {name for name, part in fixed.items() if part is not None}
        given = leaks_of(dataset, copies, split, parts=own)
        leaks["near"] = leaks["exact"] + given["near"] - given["exact"]
    refuse_leaks(dataset.name, leaks)


def _refuse_unreadable(name: str, bad: Mapping[int, str], total: int) -> None:
    first = " | ".join(list(bad.values())[:_NAMED])
    more = f" (and {len(bad) - _NAMED} more)" if len(bad) > _NAMED else ""
    reason = (
        f"{len(bad)} of {total} pictures cannot be used: {first}{more}; mend or remove them, or "
        "leave them out with --skip-unreadable"
    )
    raise DataError(source=name, reason=reason)


def _first_of_each(indices: Indices, targets: Indices, counts: Indices) -> Indices:
    """Return the first so many of each class, sorted; ``counts``: int64 ``(classes,)``."""
    by_class = indices[np.argsort(targets[indices], kind="stable")]
    classes = targets[by_class]
    before = np.arange(len(classes)) - np.searchsorted(classes, classes)
    return np.sort(by_class[before < counts[classes]])
