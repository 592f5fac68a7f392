"""Pictures to train on: opened, prepared once, looked over for copies, and split without leaks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.core.progress import Progress, ProgressEvent
from edgeml.data.dataset import ImageDataset, Split, make_split
from edgeml.data.image_survey import groups_to_keep, leaks_of, refuse_leaks, survey_images
from edgeml.data.opening import open_image_data, place_of, prepare_usable
from edgeml.errors import DataError
from edgeml.tasks.image import ImagePreprocessing

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

    def fewer(self, per_class: int | None, *, seed: int) -> TrainingImages:
        """Return the same with so many pictures of each class to learn from, or all of them."""
        if per_class is None:
            return self
        split, targets = self.split, self.dataset.targets
        held = max(1, round(_HELD_OF_FEW * per_class))
        counts = {"train": per_class - held, "validation": held}
        rng = np.random.default_rng(seed)
        parts = {}
        for name, count in counts.items():
            part = rng.permutation(getattr(split, name))
            few = [
                part[targets[part] == index][:count] for index in range(len(self.dataset.labels))
            ]
            parts[name] = np.sort(np.concatenate(few))
        return replace(self, split=replace(split, **parts))

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
            allow_leaks: Whether parts that share pictures are reported, not refused.
            skip_unreadable: Whether pictures that cannot be read are left out, not refused.
            shares: Of the validation part, and of the test part or None.
            progress: Told of each picture, and of what was found.

        Raises:
            DataError: Pictures cannot be read, a class has too few, or parts would share some.
        """
        dataset = self.dataset
        wanted = np.arange(len(dataset.targets))
        if not dataset.near_copies_matter and dataset.fixed_test is not None:
            wanted = np.setdiff1d(wanted, dataset.fixed_test)
        images, bad = prepare_usable(dataset, wanted, preprocessing, progress=progress)
        if bad and not skip_unreadable:
            _refuse_unreadable(dataset.name, bad, len(wanted))
        unusable = np.array(sorted(bad), dtype=np.int64)
        kept = ~np.isin(wanted, unusable)
        survey = survey_images(dataset, images[kept] if bad else images, wanted[kept])
        together, near = groups_to_keep(dataset, survey)
        split = make_split(
            dataset,
            seed=seed,
            validation_share=shares[0],
            test_share=shares[1],
            keep_together=None if allow_leaks else together,
            excluded=unusable if bad else None,
        )
        leaks = leaks_of(dataset, survey, split)
        if not allow_leaks and dataset.near_copies_matter:
            refuse_leaks(dataset.name, leaks, near=near)
        rows = np.full(len(dataset.targets), -1, dtype=np.int64)
        rows[wanted] = np.arange(len(wanted))
        findings = {
            **survey.findings,
            "unreadable": len(bad),
            "first_unreadable": list(bad.values())[:_NAMED],
            "near_copies_kept_together": near,
            "shared_between_parts": leaks,
        }
        note = _summary(findings)
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


def _refuse_unreadable(name: str, bad: Mapping[int, str], total: int) -> None:
    first = " | ".join(list(bad.values())[:_NAMED])
    more = f" (and {len(bad) - _NAMED} more)" if len(bad) > _NAMED else ""
    reason = (
        f"{len(bad)} of {total} pictures cannot be used: {first}{more}; mend or remove them, or "
        "leave them out with --skip-unreadable"
    )
    raise DataError(source=name, reason=reason)


def _summary(findings: Mapping[str, Any]) -> str:
    """Return the findings as one line for people."""
    classes = findings["classes"]
    words = [
        f"{findings['samples']} pictures, {len(classes)} classes of {min(classes.values())} to "
        f"{max(classes.values())}"
    ]
    counted = {
        "exact_copies": "exact copies",
        "near_copies": "near copies",
        "contradictions": "copies with several labels",
        "unreadable": "unreadable and left out",
        "hidden_files": "hidden files ignored",
        "other_files": "files that are no pictures ignored",
    }
    words += [f"{findings[key]} {what}" for key, what in counted.items() if findings.get(key)]
    shared = sum(findings["shared_between_parts"].values())
    return "; ".join([*words, f"{shared} shared between parts"] if shared else words)
