"""What is wrong with a calibration sample, told before its ranges are trusted.

Bad calibration shows up as lost accuracy far from its cause. These rules look at the cause: too few
samples, missing classes, padding counted as data, random ids. That real activations fit the ranges
is read off each candidate (:mod:`edgeml.exporting.clipping`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgeml.errors import DataError

MIN_SAMPLES = 100
MAX_PADDING_SHARE = 0.05
# In natural text the ten commonest words are a fifth of all tokens; in uniform ids, almost none.
MIN_COMMON_SHARE = 0.05
_COMMON = 10
_MIN_TOKENS = 2000


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that a rule found.

    Attributes:
        rule: ``size``, ``classes``, ``padding`` or ``random``.
        level: ``warning`` or ``note``.
        message: What, what was expected, what to do.
    """

    rule: str
    level: Literal["warning", "note"]
    message: str

    def to_json(self) -> dict[str, Any]:
        """Return the finding as JSON values."""
        return asdict(self)


def lint_sample(
    targets: npt.NDArray[Any] | None, labels: Sequence[str], *, num_samples: int
) -> list[Finding]:
    """Look at size and classes of a calibration sample.

    Args:
        targets: int64 ``(samples,)``, or None where there are no labels, or several a sample.
        labels: All classes.
        num_samples: Its size.
    """
    found = []
    if num_samples < MIN_SAMPLES:
        text = (
            f"{num_samples} calibration samples; {MIN_SAMPLES} to 300 were expected; give more data"
        )
        found.append(Finding(rule="size", level="warning", message=text))
    if targets is not None and num_samples >= len(labels):
        present = set(targets.tolist())
        missing = [name for index, name in enumerate(labels) if index not in present]
        if missing:
            names = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
            text = f"{len(missing)} of {len(labels)} classes have no calibration sample ({names})"
            found.append(Finding(rule="classes", level="note", message=text))
    return found


def lint_padding(masks: Sequence[npt.NDArray[np.int64]]) -> list[Finding]:
    """Look for padding among calibration inputs: its activations are nobody's.

    Args:
        masks: int64 ``(batch, sequence)`` each.
    """
    total = sum(mask.size for mask in masks)
    share = (total - sum(int(mask.sum()) for mask in masks)) / max(1, total)
    if share <= MAX_PADDING_SHARE:
        return []
    text = (
        f"{share:.0%} of the calibration tokens are padding; at most {MAX_PADDING_SHARE:.0%} were "
        "expected; calibrate one text at a time"
    )
    return [Finding(rule="padding", level="warning", message=text)]


def refuse_random_ids(rows: Sequence[npt.NDArray[np.int64]], *, source: str) -> None:
    """Refuse token ids that were drawn at random: their ranges say nothing about text.

    Args:
        rows: int64 ``(tokens,)`` each, without padding.
        source: Name of the data.

    Raises:
        DataError: The commonest ids are as rare as in uniform noise.
    """
    # First and last are special tokens, which every row has.
    counts = Counter(token for row in rows for token in row[1:-1].tolist())
    total = sum(counts.values())
    if total < _MIN_TOKENS:
        return
    common = sum(count for _, count in counts.most_common(_COMMON)) / total
    if common < MIN_COMMON_SHARE:
        reason = (
            f"its {_COMMON} commonest token ids are {common:.1%} of all, as in random ids; real "
            f"text has over {MIN_COMMON_SHARE:.0%}; calibrate on real text"
        )
        raise DataError(source=source, reason=reason)
