"""``edgeml.robustness``: what a bundle's answers are worth when pictures are not as in training.

Accuracy under blur, noise, compression, light and rotation, for fp32 and the other variants side by
side on the same pictures; and whether pictures of nothing that the model knows get lower confidence
than those that it knows: the area under the ROC curve of the largest probability.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.core.bundle import Bundle
from edgeml.core.progress import Progress, ProgressEvent, silent
from edgeml.errors import DataError, InputError
from edgeml.tasks.image import INPUT, OUTPUT, ImagePreprocessing
from edgeml.tasks.predictor import TaskPredictor
from edgeml.workflows.checkpoint_data import check_unchanged
from edgeml.workflows.loading import load
from edgeml.workflows.reporting import Report, ReportTable

_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """What was measured.

    Attributes:
        rows: One each: corruption, strength, unit, and accuracy by variant; the first is clean.
        unknown: Source of the unknown pictures, their number, and by variant ``auroc``,
            ``confidence_known`` and ``confidence_unknown``.
        samples: Labelled pictures.
        variants: Names, fp32 first.
        name: Of the bundle.
    """

    rows: Sequence[Mapping[str, Any]]
    unknown: Mapping[str, Any]
    samples: int
    variants: tuple[str, ...]
    name: str

    def to_json(self) -> dict[str, Any]:
        """Return the keys of the command line's JSON."""
        return {
            "bundle": self.name,
            "samples": self.samples,
            "variants": list(self.variants),
            "rows": [dict(row) for row in self.rows],
            "unknown": dict(self.unknown),
        }

    def tables(self) -> list[ReportTable]:
        """Return what a report shows."""
        corrupted = ReportTable(
            title=f"Accuracy of corrupted pictures ({self.samples})",
            columns=["corruption", "strength", *self.variants],
            rows=[
                [
                    row["corruption"],
                    f"{row['strength']:g} {row['unit']}" if row["strength"] is not None else "-",
                    *(row["accuracy"][name] for name in self.variants),
                ]
                for row in self.rows
            ],
        )
        unknown = self.unknown
        known = ReportTable(
            title=f"Unknown pictures ({unknown['samples']}, {unknown['source']})",
            columns=["variant", "AUROC", "confidence, known", "confidence, unknown"],
            rows=[
                [name, *(unknown["variants"][name][key] for key in _UNKNOWN)]
                for name in self.variants
            ],
        )
        return [corrupted, known]

    def report(self) -> Report:
        """Return a page of its own."""
        return Report(
            recipe=f"robustness of {self.name}",
            preset=f"{self.samples} pictures",
            source={"bundle": self.name, "unknown pictures": self.unknown["source"]},
            rows=[],
            metrics={},
            tables=self.tables(),
        )


_UNKNOWN = ("auroc", "confidence_known", "confidence_unknown")


def robustness(
    bundle: str | Path,
    *,
    data: str | Path,
    unknown: str | Path | None = None,
    variants: Sequence[str] = ("fp32", "int8"),
    limit: int = 500,
    seed: int = 0,
    num_threads: int | None = None,
    progress: Progress = silent,
) -> Robustness:
    """Measure a bundle of pictures under corruptions and on unknown pictures.

    Args:
        bundle: Its folder.
        data: A checkpoint, whose test part is taken, or labelled pictures of the bundle's classes.
        unknown: Pictures of nothing that the model knows: a folder or a named set; None makes
            patterns up.
        variants: Names; those that the bundle lacks are left out, but not fp32.
        limit: Largest number of pictures of each kind, drawn at random.
        seed: Seed of everything random.
        num_threads: Threads of each variant.
        progress: Told of each corruption.

    Raises:
        InputError: The bundle is not of pictures, has no fp32, or the limit is below 1.
        DataError: The data is unfit, or of other classes.
        BundleError: This is no readable bundle.
    """
    from edgeml.data.corruptions import CORRUPTIONS, corrupt

    opened = Bundle.read(bundle)
    manifest = opened.manifest
    if manifest.task != "image-classification" or limit < 1:
        raise InputError(
            f"the bundle's task is {manifest.task} and the limit {limit}; image-classification and "
            "at least 1 were expected",
            item=str(bundle),
        )
    there = {row.name for row in manifest.variants}
    names = tuple(name for name in variants if name in there)
    if "fp32" not in names:
        raise InputError(
            f"fp32 is the yardstick and is not among {', '.join(names) or 'none'}; name it and let "
            "the bundle have it",
            item=str(bundle),
        )
    contract = ImagePreprocessing.from_json(manifest.preprocessing)
    images, targets = _labelled(data, contract, manifest.labels, limit, seed)
    predictors = {name: load(opened, variant=name, num_threads=num_threads) for name in names}
    try:
        clean = {name: _answers(row, images) for name, row in predictors.items()}
        rows = [_row("none", None, "", clean, targets)]
        tried = [(kind, strength) for kind in CORRUPTIONS for strength in kind.strengths]
        for done, (kind, strength) in enumerate(tried, start=1):
            changed = corrupt(images, kind, strength, seed=seed)
            found = {name: _answers(row, changed) for name, row in predictors.items()}
            rows.append(_row(kind.name, strength, kind.unit, found, targets))
            progress(ProgressEvent(stage="corrupt", done=done, total=len(tried), note=kind.name))
        strange, source = _unknown(unknown, contract, limit, seed)
        foreign = {name: _answers(row, strange) for name, row in predictors.items()}
    finally:
        for row in predictors.values():
            row.close()
    return Robustness(
        rows=rows,
        unknown={
            "source": source,
            "samples": len(strange),
            "variants": {name: _confidence(clean[name], foreign[name]) for name in names},
        },
        samples=len(targets),
        variants=names,
        name=manifest.name,
    )


def area_under_curve(
    known: npt.NDArray[np.floating[Any]], unknown: npt.NDArray[np.floating[Any]]
) -> float:
    """Return the chance that a known picture scores above an unknown one; ties count half.

    >>> area_under_curve(np.array([0.9, 0.8]), np.array([0.1, 0.8]))
    0.875
    """
    ordered = np.sort(unknown)
    below = np.searchsorted(ordered, known, side="left")
    upto = np.searchsorted(ordered, known, side="right")
    return float((below + upto).mean() / 2 / len(unknown))


def _confidence(
    known: npt.NDArray[np.float32], unknown: npt.NDArray[np.float32]
) -> dict[str, float]:
    own, foreign = known.max(axis=1), unknown.max(axis=1)
    return {
        "auroc": area_under_curve(own, foreign),
        "confidence_known": float(own.mean()),
        "confidence_unknown": float(foreign.mean()),
    }


def _row(
    name: str,
    strength: float | None,
    unit: str,
    answers: Mapping[str, npt.NDArray[np.float32]],
    targets: npt.NDArray[np.int64],
) -> dict[str, Any]:
    accuracy = {
        variant: float((rows.argmax(axis=1) == targets).mean()) for variant, rows in answers.items()
    }
    return {"corruption": name, "strength": strength, "unit": unit, "accuracy": accuracy}


def _answers(predictor: TaskPredictor, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return probabilities, float32 ``(samples, classes)``."""
    parts = [
        predictor.run({INPUT: images[start : start + _BATCH]})[OUTPUT]
        for start in range(0, len(images), _BATCH)
    ]
    return np.concatenate(parts)


def _labelled(
    data: str | Path,
    contract: ImagePreprocessing,
    labels: tuple[str, ...],
    limit: int,
    seed: int,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return prepared pictures and their classes in the bundle's order."""
    from edgeml.data.opening import open_image_data, prepare_images, reopen

    path = Path(data)
    if (path / "checkpoint.json").is_file():
        from edgeml.training.checkpoint import read_checkpoint

        read, _ = read_checkpoint(path)
        dataset, indices = reopen(read.data), read.split["test"]
        check_unchanged(read, dataset.fingerprint, name=dataset.name)
    else:
        dataset = open_image_data(data)
        indices = np.arange(len(dataset.targets))
    foreign = [label for label in dataset.labels if label not in labels]
    if foreign:
        reason = (
            f"its class '{foreign[0]}' is none of the bundle's: {', '.join(labels)}; pictures of "
            "the bundle's classes were expected"
        )
        raise DataError(source=dataset.name, reason=reason)
    indices = np.sort(np.random.default_rng(seed).permutation(indices)[:limit])
    order = np.array([labels.index(label) for label in dataset.labels])
    return prepare_images(dataset, indices, contract), order[dataset.targets[indices]]


def _unknown(
    source: str | Path | None, contract: ImagePreprocessing, limit: int, seed: int
) -> tuple[npt.NDArray[np.uint8], str]:
    """Return prepared pictures of nothing that the model knows, and where they came from."""
    if source is None:
        from edgeml.data.corruptions import made_up_pictures

        drawn = made_up_pictures(limit, contract.height, contract.width, seed=seed)
        return drawn, "made-up patterns"
    from edgeml.data.opening import NAMED, open_image_data
    from edgeml.data.picture_files import picture_files

    items: Sequence[Any]
    if str(source) in NAMED:
        items = open_image_data(str(source)).items  # type: ignore[assignment]
    else:
        if not Path(source).is_dir():
            raise InputError(
                f"there is no such folder; one of pictures, or {', '.join(NAMED)}, was expected",
                item=str(source),
            )
        items = picture_files(Path(source))
    if not len(items):
        raise InputError("this folder has no pictures; some were expected", item=str(source))
    picks = np.random.default_rng(seed).permutation(len(items))[:limit].tolist()
    return np.stack([contract.prepare(items[index]) for index in picks]), Path(source).name
