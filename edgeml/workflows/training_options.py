"""Which arguments of a fine-tuning are for which task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from edgeml.errors import InputError

IMAGE_TASK = "image-classification"
TEXT_TASK = "text-classification"

Settings = TypeVar("Settings")


def check_options(task: str, *, images: Mapping[str, object], texts: Mapping[str, object]) -> None:
    """Refuse an unknown task, and options that are for another one.

    Args:
        task: What was asked for.
        images: Options for pictures by name; None where not given.
        texts: Options for texts, likewise.
    """
    if task not in (IMAGE_TASK, TEXT_TASK):
        raise InputError(
            f"the task is '{task}'; {IMAGE_TASK} or {TEXT_TASK} was expected", item="--task"
        )
    for name, value in (texts if task == IMAGE_TASK else images).items():
        if value is not None:
            other = TEXT_TASK if task == IMAGE_TASK else IMAGE_TASK
            raise InputError(
                f"{name} is for {other}, and the task is {task}; leave it out or change the task",
                item=option_of(name),
            )


def option_of(name: str) -> str:
    """Return the command line's option of an argument."""
    special = {"multi_label_separator": "--multi-label"}
    return special.get(name, f"--{name.replace('_', '-')}")


def of_kind(settings: object, kind: type[Settings], task: str) -> Settings | None:
    """Return settings that are for the task, or None where none were given."""
    if settings is None or isinstance(settings, kind):
        return settings
    raise InputError(
        f"the settings are {type(settings).__name__}; {kind.__name__} was expected for {task}"
    )
