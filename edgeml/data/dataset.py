"""A labelled set of pictures or texts, where it came from, and its split."""

from __future__ import annotations

import hashlib
import itertools
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.data.group_split import split_groups
from edgeml.errors import DataError


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
        fixed_validation: int64 indices of its validation split, or None.
        fixed_train: int64 indices that no other part may take, where the set leaves others to be
            dealt out; None where what is in no other part is there to train on and to draw from.
        groups: int64 ``(samples,)``: pictures that share a number must not be in two parts; None
            where nobody says.
        hashes: uint64 ``(samples,)`` of the contents, to find copies; None compares none.
        published: Whether its own parts are kept as they are, whatever pictures they share: others
            report figures on them. A user's own parts must share none.
        odd: Files of a folder that are no samples of the set, counted by kind, for the report.
    """

    name: str
    labels: tuple[str, ...]
    items: Sequence[Any] | npt.NDArray[np.uint8]
    targets: npt.NDArray[np.int64]
    fingerprint: str
    source: Mapping[str, str] = field(default_factory=dict)
    fixed_test: npt.NDArray[np.int64] | None = None
    fixed_validation: npt.NDArray[np.int64] | None = None
    fixed_train: npt.NDArray[np.int64] | None = None
    groups: npt.NDArray[np.int64] | None = None
    hashes: npt.NDArray[np.uint64] | None = None
    published: bool = False
    odd: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TextDataset:
    """Texts and their classes.

    Attributes:
        name: A named set, or the file's or folder's name.
        labels: Class names in index order.
        items: The texts.
        targets: int64 ``(samples,)``, indices into ``labels``; where a text may have several labels
            or none, bool ``(samples, classes)``.
        fingerprint: sha256 over texts and labels, to recognise the same data again.
        source: Where the data came from, for reports.
        fixed_test: int64 indices of the test part that the set itself defines, or None.
        fixed_validation: int64 indices of its validation part, or None.
        excluded: int64 indices that no part may use, or None.
    """

    name: str
    labels: tuple[str, ...]
    items: Sequence[str]
    targets: npt.NDArray[np.int64] | npt.NDArray[np.bool_]
    fingerprint: str
    source: Mapping[str, str] = field(default_factory=dict)
    fixed_test: npt.NDArray[np.int64] | None = None
    fixed_validation: npt.NDArray[np.int64] | None = None
    excluded: npt.NDArray[np.int64] | None = None

    @property
    def multi_label(self) -> bool:
        """Whether a text may have several labels, or none."""
        return self.targets.ndim == 2


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


def make_split(
    dataset: ImageDataset,
    *,
    seed: int,
    validation_share: float = 1 / 12,
    test_share: float | None = None,
    keep_together: npt.NDArray[np.int64] | None = None,
    excluded: npt.NDArray[np.int64] | None = None,
) -> Split:
    """Split each class by the same shares, seeded; parts that the set defines are kept.

    Args:
        dataset: What to split.
        seed: Seed of the shuffle.
        validation_share: Share of what the set puts into no part.
        test_share: Share of test where the set defines none; None takes ``validation_share``.
        keep_together: int64 ``(samples,)``: pictures that share a number stay together; None takes
            the set's groups.
        excluded: int64 indices that no part may use, or None.

    Returns:
        Three disjoint parts. Those that are drawn, and the training part, have every class; those
        that the set defines may lack some.

    Raises:
        DataError: A class has too few pictures, or groups of pictures, to be in every part that is
            drawn; or a part of the set's own has none to use.
    """
    fixed = {"validation": dataset.fixed_validation, "test": dataset.fixed_test}
    bad = np.zeros(0, dtype=np.int64) if excluded is None else excluded
    kept = {
        name: _usable(dataset, name, part, bad) for name, part in fixed.items() if part is not None
    }
    shares = {"validation": validation_share, "test": test_share or validation_share}
    drawn = {"train": 0.0} | {name: value for name, value in shares.items() if name not in kept}
    free = np.setdiff1d(np.arange(len(dataset.targets)), np.concatenate([bad, *kept.values()]))
    groups = dataset.groups if keep_together is None else keep_together
    pinned = np.zeros(0, dtype=np.int64)
    if dataset.fixed_train is not None and len(drawn) > 1:
        pinned = np.intersect1d(free, dataset.fixed_train)
        if groups is not None:
            pinned = free[np.isin(groups[free], groups[pinned]) | np.isin(free, pinned)]
        free = np.setdiff1d(free, pinned)
    _check_counts(dataset, free, list(drawn))
    rng = np.random.default_rng(seed)
    if groups is not None and len(np.unique(groups[free])) < len(free) and len(drawn) > 1:
        parts = split_groups(
            dataset.targets, groups, free, shares=drawn, labels=dataset.labels, name=dataset.name,
            rng=rng,
        )  # fmt: skip
    else:
        parts = _deal_classes(dataset, free, drawn, rng)
    parts["train"] = np.union1d(parts["train"], pinned)
    return Split(**{**parts, **kept})


def _usable(
    dataset: ImageDataset, name: str, part: npt.NDArray[np.int64], bad: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return what is left of a part of the set's own; one of nothing could not be judged by."""
    left = np.setdiff1d(part, bad).astype(np.int64)
    if len(part) and not len(left):
        reason = (
            f"none of the {len(part)} pictures of its own {name} part can be used; some were "
            "expected; mend them, or leave the part out to have one drawn"
        )
        raise DataError(source=dataset.name, reason=reason)
    return left


def _check_counts(dataset: ImageDataset, free: npt.NDArray[np.int64], drawn: Sequence[str]) -> None:
    counts = np.bincount(dataset.targets[free], minlength=len(dataset.labels))
    least = len(drawn)
    if counts.min() < least:
        index = int(np.flatnonzero(counts < least)[0])
        own = (dataset.fixed_train, dataset.fixed_validation, dataset.fixed_test)
        where = " beside those in parts of its own" if any(part is not None for part in own) else ""
        reason = (
            f"the class '{dataset.labels[index]}' has {counts[index]} pictures{where}; at least "
            f"{least} are needed, one each for {', '.join(drawn)}; add pictures or remove the class"
        )
        raise DataError(source=dataset.name, reason=reason)


def _deal_classes(
    dataset: ImageDataset,
    free: npt.NDArray[np.int64],
    shares: Mapping[str, float],
    rng: np.random.Generator,
) -> dict[str, npt.NDArray[np.int64]]:
    """Deal the pictures of each class out by themselves."""
    parts: dict[str, list[npt.NDArray[np.int64]]] = {name: [] for name in shares}
    held = [name for name in shares if name != "train"]
    order = free[np.argsort(dataset.targets[free], kind="stable")]
    bounds = np.searchsorted(dataset.targets[order], np.arange(len(dataset.labels) + 1))
    for start, end in itertools.pairwise(bounds.tolist()):
        members = rng.permutation(order[start:end])
        at, most = 0, (len(members) - 1) // max(1, len(held))
        for name in held:
            count = min(most, max(1, round(len(members) * shares[name])))
            parts[name].append(members[at : at + count])
            at += count
        parts["train"].append(members[at:])
    return {name: np.sort(np.concatenate(rows)).astype(np.int64) for name, rows in parts.items()}


def make_text_split(dataset: TextDataset, *, seed: int, validation_share: float = 1 / 10) -> Split:
    """Split texts, seeded; parts that the set defines are kept, and equal texts stay together.

    Texts are equal when :func:`normalised` makes them so. Each class is split by the same shares,
    a text with contradicting labels counting for its first; several labels a text are split
    without regard to them.

    Args:
        dataset: What to split.
        seed: Seed of the shuffle.
        validation_share: Share of what is in no fixed part; also the share of test where the set
            defines none.

    Returns:
        Three disjoint parts, none of which shares a text with another.

    Raises:
        DataError: A class has too few texts to be in every part, or a fixed part shares texts with
            another part.
    """
    hashes = text_hashes(dataset.items)
    fixed = {"test": dataset.fixed_test, "validation": dataset.fixed_validation}
    free = np.ones(len(hashes), dtype=bool)
    for taken in (*fixed.values(), dataset.excluded):
        if taken is not None:
            free[taken] = False
    rest = np.flatnonzero(free)
    kept = {
        name: np.sort(part).astype(np.int64) for name, part in fixed.items() if part is not None
    }
    _refuse_shared(dataset.name, hashes, {**kept, "training": rest})
    _, first, group_of = np.unique(hashes[rest], return_index=True, return_inverse=True)
    drawn = ["train", *(name for name in ("validation", "test") if name not in kept)]
    chosen: dict[str, list[npt.NDArray[np.int64]]] = {name: [] for name in drawn}
    rng = np.random.default_rng(seed)
    for what, members in _strata(dataset, rest[first]):
        if len(members) < len(drawn):
            reason = (
                f"{what} {len(members)} distinct texts to split; at least {len(drawn)} are needed, "
                f"one each for {', '.join(drawn)}; add texts or remove the class"
            )
            raise DataError(source=dataset.name, reason=reason)
        for name, groups in _deal(rng.permutation(members), drawn, validation_share).items():
            chosen[name].append(groups)
    parts = {name: rest[np.isin(group_of, np.concatenate(chosen[name]))] for name in drawn} | kept
    return Split(train=parts["train"], validation=parts["validation"], test=parts["test"])


def _strata(
    dataset: TextDataset, firsts: npt.NDArray[np.int64]
) -> list[tuple[str, npt.NDArray[np.int64]]]:
    """Return each stratum as words and the groups in it; ``firsts``: a row of each group."""
    if dataset.multi_label:
        return [("there are", np.arange(len(firsts)))]
    classes = dataset.targets[firsts]
    return [
        (f"the class '{label}' has", np.flatnonzero(classes == index))
        for index, label in enumerate(dataset.labels)
    ]


def _deal(
    members: npt.NDArray[np.int64], names: Sequence[str], share: float
) -> dict[str, npt.NDArray[np.int64]]:
    """Deal shuffled members out: the same share to all but ``train``, which gets the rest."""
    held = names[1:]
    most = (len(members) - 1) // max(1, len(held))
    count = min(most, max(1, round(len(members) * share)))
    dealt = {name: members[index * count :][:count] for index, name in enumerate(held)}
    return {**dealt, "train": members[len(held) * count :]}


def _refuse_shared(
    name: str, hashes: npt.NDArray[np.uint64], parts: Mapping[str, npt.NDArray[np.int64]]
) -> None:
    pairs = (("test", "training"), ("validation", "training"), ("test", "validation"))
    for held, other in pairs:
        if held not in parts or other not in parts:
            continue
        shared = int(np.isin(hashes[parts[held]], hashes[parts[other]]).sum())
        if shared:
            reason = (
                f"{shared} of {len(parts[held])} {held} texts are also in the {other} rows; parts "
                "that share no text were expected; remove them from one of the two"
            )
            raise DataError(source=name, reason=reason)


def refuse_overlap(source: str, texts: Iterable[str], seen: npt.NDArray[np.uint64]) -> None:
    """Refuse texts to evaluate on that a training has seen.

    Args:
        source: Where the texts are from, for the message.
        texts: What shall be evaluated on.
        seen: uint64 ``(samples,)``, :func:`text_hashes` of what was trained on.

    Raises:
        DataError: Some were seen; the message counts them.
    """
    hashes = text_hashes(texts)
    shared = int(np.isin(hashes, seen).sum())
    if shared:
        reason = (
            f"{shared} of {len(hashes)} texts to evaluate on are also in the training rows; texts "
            "that the training has not seen were expected; remove them or choose other data"
        )
        raise DataError(source=source, reason=reason)


def normalised(text: str) -> str:
    r"""Return what is compared when texts are called equal: no case, one form, single spaces.

    >>> normalised("  \uff27ood\tFILM ")
    'good film'
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def text_hashes(texts: Iterable[str]) -> npt.NDArray[np.uint64]:
    """Return a 64-bit hash of each text as :func:`normalised` gives it, uint64 ``(samples,)``."""
    encoded = (normalised(text).encode("utf-8", "surrogatepass") for text in texts)
    digests = (hashlib.blake2b(one, digest_size=8).digest() for one in encoded)
    return np.fromiter((int.from_bytes(one, "big") for one in digests), np.uint64)


def text_fingerprint(
    texts: Sequence[str],
    labels: Sequence[str],
    targets: npt.NDArray[np.int64] | npt.NDArray[np.bool_],
) -> str:
    """Return the sha256 over texts and labels in their order."""
    digest = hashlib.sha256()
    for part in (*labels, "", *texts):
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big") + data)
    digest.update(np.ascontiguousarray(targets).tobytes())
    return digest.hexdigest()


def text_findings(dataset: TextDataset) -> dict[str, Any]:
    """Count what a report should say about texts before anything is trained on them.

    Returns:
        ``samples``; ``duplicates``, rows whose text an earlier row has; ``contradictions``, texts
        that have several rows with different labels; ``classes``, rows by label;
        ``longest_characters``.
    """
    rows = dataset.targets if dataset.multi_label else dataset.targets[:, None]
    _, group_of = np.unique(text_hashes(dataset.items), return_inverse=True)
    pairs = np.unique(np.column_stack([group_of, rows]), axis=0)
    _, versions = np.unique(pairs[:, 0], return_counts=True)
    one_hot = rows if dataset.multi_label else rows == np.arange(len(dataset.labels))
    return {
        "samples": len(dataset.items),
        "duplicates": len(dataset.items) - len(versions),
        "contradictions": int((versions > 1).sum()),
        "classes": dict(zip(dataset.labels, one_hot.sum(axis=0).tolist(), strict=True)),
        "longest_characters": max(map(len, dataset.items), default=0),
    }
