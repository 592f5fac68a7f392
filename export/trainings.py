"""A recipe's trainings: finished ones are taken and killed ones go on, where that is asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import edgeml
from edgeml.core.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Training:
    """A training that is done.

    Attributes:
        checkpoint: Its folder.
        accuracy: Validation accuracy of the epoch that was kept.
        seconds: Wall time of the training; of a resumed one, since it was resumed.
    """

    checkpoint: Path
    accuracy: float
    seconds: float


def train(
    asked: Mapping[str, Any], place: Path, *, resume: bool = False, progress: Progress
) -> Training:
    """Fine-tune as asked, unless that is done.

    Args:
        asked: Arguments of :func:`edgeml.finetune`, but for the three below.
        place: Folder for the checkpoint. What was asked is written beside it once it is done.
        resume: Whether to take what is finished there, and to go on with what was killed.
        progress: Told of each step.

    Raises:
        EdgemlError: What is there was asked for differently, or the training failed.
    """
    note = place.with_name(f"{place.name}.trained.json")
    wanted = json.loads(json.dumps(dict(asked), default=_plain))
    if resume and note.is_file() and place.is_dir():
        found = json.loads(note.read_bytes())
        if found["asked"] != wanted:
            raise edgeml.EdgemlError(
                f"'{place}' was trained with other settings; those of this preset were expected; "
                "choose another --artifacts, or run without --resume"
            )
        return Training(
            checkpoint=place, accuracy=found["accuracy"], seconds=found["training_seconds"]
        )
    note.unlink(missing_ok=True)
    killed = place.with_name(f"{place.name}.partial").is_dir()
    done = edgeml.finetune(**asked, out=place, resume=resume and killed, progress=progress)
    figures = {"asked": wanted, "accuracy": done.accuracy, "training_seconds": done.seconds}
    note.write_text(json.dumps(figures, indent=2) + "\n")
    return Training(checkpoint=place, accuracy=done.accuracy, seconds=done.seconds)


def _plain(value: Any) -> Any:
    """Return settings as JSON values; every one of them is a dataclass."""
    return vars(value)
