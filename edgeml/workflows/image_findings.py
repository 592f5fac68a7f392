"""What was found in pictures before a training, in one line for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeml.data.image_parts import parts_words

# A finding that counts, and its words.
_COUNTED = {
    "exact_copies": "exact copies",
    "near_copies": "near copies",
    "contradictions": "copies with several labels",
    "nearly_black": "nearly black (none of their values above 16 of 255)",
    "unreadable": "unreadable and left out",
    "hidden_files": "hidden files ignored",
    "other_files": "files that are no pictures ignored",
    "loose_pictures": "pictures beside class folders ignored",
    "linked_folders": "linked folders ignored",
    "unlisted_pictures": "pictures beside the listed ones not in the table",
    "files_of_no_part": "Parquet files that fit no part left out",
    "unlabelled": "pictures of a part without labels left out",
}

# Of longer lists so much is stored: checkpoints and bundles stay small with any number of classes.
_MOST_STORED = 100


def summary(findings: Mapping[str, Any]) -> str:
    """Return the findings as one line.

    Args:
        findings: Of :meth:`edgeml.workflows.image_data.TrainingImages.prepared`.
    """
    classes = findings["classes"]
    words = [
        f"{findings['samples']} pictures, {len(classes)} classes of {min(classes.values())} to "
        f"{max(classes.values())}"
    ]
    words += [f"{findings[key]} {what}" for key, what in _COUNTED.items() if findings.get(key)]
    words += parts_words(findings)
    if findings.get("held_out_copies"):
        words.append(findings["held_out_copies"])
    return "; ".join(words)


def about_copies(findings: Mapping[str, Any], *, held: int, published: bool) -> str:
    """Say which copies the parts share, and what that means for the accuracy; or nothing.

    Args:
        findings: With ``copies_kept_together``, ``near_copies_looked_for`` and
            ``shared_between_parts``.
        held: Pictures of the validation and test parts.
        published: Whether the parts are a publisher's.
    """
    shared = findings["shared_between_parts"]
    words, worst = [], max(shared.values())
    if not findings["copies_kept_together"]:
        words.append("no split keeps copies together and has each class in each part")
    if shared["exact"]:
        words.append(
            f"{shared['exact']} of {held} held-out pictures are copies of ones in another part"
        )
    if shared.get("group"):
        words.append(f"{shared['group']} of {held} are of a group that another part has too")
    if near := shared["near"] - shared["exact"]:
        words.append(
            f"near copies were not kept together: {near} of {held} held-out pictures look like "
            "ones in another part"
        )
    if worst:
        much = "says little" if 2 * worst > held else "may say too much"
        words.append(f"held-out accuracy {much} about new pictures")
    if not findings["near_copies_looked_for"] and not published:
        words.append(
            "near copies were not looked for among so many pictures: where parts share some, "
            "held-out accuracy says little about new pictures"
        )
    return ", ".join(words)


def brief(findings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint keeps of the findings: a hundred entries of each list at most.

    Of counts the smallest are kept, of names the first. ``num_classes`` and ``largest_class`` are
    there where classes are left out.
    """
    stored = {key: _few(value) for key, value in findings.items()}
    counts = findings["classes"]
    if len(counts) > _MOST_STORED:
        stored |= {"num_classes": len(counts), "largest_class": max(counts.values())}
    return stored


def _few(value: Any) -> Any:
    if isinstance(value, Mapping):
        rows = list(value.items())
        if len(rows) > _MOST_STORED:
            rows = sorted(rows, key=lambda row: row[1])[:_MOST_STORED]
        return {key: _few(inner) for key, inner in rows}
    if isinstance(value, (list, tuple)) and len(value) > _MOST_STORED:
        return [*value[:_MOST_STORED], f"and {len(value) - _MOST_STORED:,} more"]
    return value
