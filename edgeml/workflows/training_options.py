"""Which arguments of a fine-tuning are for which task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from edgeml.errors import InputError

IMAGE_TASK = "image-classification"
TEXT_TASK = "text-classification"
RECOMMENDATION_TASK = "recommendation"

Settings = TypeVar("Settings")


def check_options(
    task: str,
    *,
    images: Mapping[str, object],
    texts: Mapping[str, object],
    logs: Mapping[str, object],
) -> None:
    """Refuse an unknown task, and options that are for another one.

    Args:
        task: What was asked for.
        images: Options for pictures by name; None where not given.
        texts: Options for texts, likewise.
        logs: Options for logs of interactions, likewise.
    """
    by_task = {IMAGE_TASK: images, TEXT_TASK: texts, RECOMMENDATION_TASK: logs}
    if task not in by_task:
        known = ", ".join(by_task)
        raise InputError(f"the task is '{task}'; one of {known} was expected", item="--task")
    for other, options in by_task.items():
        for name, value in options.items() if other != task else ():
            if value is not None:
                raise InputError(
                    f"{name} is for {other}, and the task is {task}; leave it out or change the "
                    "task",
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
