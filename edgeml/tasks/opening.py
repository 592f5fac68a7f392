"""The task that a contract describes, whoever carries the contract: a bundle or a server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edgeml.core.signature import ModelSignature
from edgeml.errors import InputError
from edgeml.tasks.classification import ClassLabels
from edgeml.tasks.image import ImagePreprocessing, ImageTask
from edgeml.tasks.predictor import Task
from edgeml.tasks.tensor import TensorTask
from edgeml.tasks.text import TextPreprocessing, TextTask

RUNNABLE = ("image-classification", "text-classification", "tensor")


def open_task(
    name: str,
    preprocessing: Mapping[str, Any],
    labels: ClassLabels,
    *,
    tokenizer: Callable[[], bytes],
    signature: ModelSignature,
) -> Task:
    """Build a task from its contract.

    Args:
        name: Such as ``image-classification``.
        preprocessing: The contract, as JSON values.
        labels: Names of the classes.
        tokenizer: Returns the contents of ``tokenizer.json``; called for text alone.
        signature: Inputs and outputs of the model, which are all of the contract of ``tensor``.

    Raises:
        InputError: This version of edgeml does not run the task, or the contract is malformed.
    """
    if name == "image-classification":
        return ImageTask(preprocessing=ImagePreprocessing.from_json(preprocessing), labels=labels)
    if name == "text-classification":
        return TextTask(TextPreprocessing.from_json(preprocessing), labels, tokenizer())
    if name == "tensor":
        return TensorTask(signature=signature)
    raise InputError(f"its task is '{name}'; this edgeml runs {', '.join(RUNNABLE)}; update it")
