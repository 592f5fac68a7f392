"""The task that a contract describes, whoever carries the contract: a bundle or a server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edgeml.errors import InputError
from edgeml.tasks.classification import ClassLabels
from edgeml.tasks.image import ImagePreprocessing, ImageTask
from edgeml.tasks.predictor import Task
from edgeml.tasks.text import TextPreprocessing, TextTask

RUNNABLE = ("image-classification", "text-classification")


def open_task(
    name: str,
    preprocessing: Mapping[str, Any],
    labels: ClassLabels,
    *,
    tokenizer: Callable[[], bytes],
) -> Task:
    """Build a task from its contract.

    Args:
        name: Such as ``image-classification``.
        preprocessing: The contract, as JSON values.
        labels: Names of the classes.
        tokenizer: Returns the contents of ``tokenizer.json``; called for text alone.

    Raises:
        InputError: This version of edgeml does not run the task, or the contract is malformed.
    """
    if name == "image-classification":
        return ImageTask(preprocessing=ImagePreprocessing.from_json(preprocessing), labels=labels)
    if name == "text-classification":
        return TextTask(TextPreprocessing.from_json(preprocessing), labels, tokenizer())
    raise InputError(f"its task is '{name}'; this edgeml runs {', '.join(RUNNABLE)}; update it")
