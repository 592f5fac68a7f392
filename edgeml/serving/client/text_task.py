"""Text classification by a server that takes strings: no tokenizer is needed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.core.predictor import Prediction
from edgeml.core.signature import Tensors
from edgeml.errors import InputError
from edgeml.serving.repository.text_config import TEXT_INPUT, TRUNCATED
from edgeml.tasks.classification import ClassLabels
from edgeml.tasks.text import MAX_CHARACTERS, OUTPUT, length_batches

# Characters of one request, padding counted: some 512 tokens.
_BATCH_CHARACTERS = 2048


class ServedTextTask:
    """Strings in, labelled probabilities out; the server has the tokenizer.

    Args:
        labels: Names of the classes.
    """

    window = 2048

    def __init__(self, labels: ClassLabels) -> None:
        self.labels = labels

    def prepare(self, item: Any) -> str:
        """Check one text: what the edge refuses is refused here, in the same words.

        Args:
            item: A str of valid Unicode, of at most 16 million characters.

        Raises:
            InputError: It is not a str, holds a lone surrogate, or is too long.
        """
        if not isinstance(item, str):
            kind = type(item).__name__
            advice = "decode it first" if isinstance(item, (bytes, bytearray)) else "convert it"
            raise InputError(f"a {kind} is not a text; a str was expected; {advice}", got=kind)
        if len(item) > MAX_CHARACTERS:
            raise InputError(
                f"the text has {len(item)} characters; at most {MAX_CHARACTERS} were expected; "
                "cut it into parts",
                limit="max_characters",
                got=str(len(item)),
            )
        try:
            item.encode()
        except UnicodeEncodeError as exc:
            raise InputError(
                f"the text holds a lone surrogate at character {exc.start}; valid Unicode was "
                "expected; decode its bytes with errors='replace'"
            ) from exc
        return item

    def decode_golden(self, contents: bytes) -> str:
        """Return a golden text from its file."""
        return contents.decode()

    def collate(self, prepared: Sequence[str]) -> Tensors:
        """Join texts into one feed: an object array ``(batch,)`` of str."""
        texts = np.empty(len(prepared), dtype=np.object_)
        texts[:] = prepared
        return {TEXT_INPUT: texts}

    def batches(self, prepared: Sequence[str]) -> list[list[int]]:
        """Group texts of like length: the server pads a request to its longest text."""
        return length_batches([len(text) for text in prepared], max_tokens=_BATCH_CHARACTERS)

    def is_truncated(self, prepared: str) -> bool:
        """Return False: what was cut is known from the answer."""
        del prepared
        return False

    def interpret(
        self, outputs: Mapping[str, npt.NDArray[Any]], *, served_by: str
    ) -> list[Prediction]:
        """Turn the server's probabilities and marks into predictions."""
        rows = self.labels.interpret(outputs[OUTPUT], served_by=served_by)
        cut = outputs[TRUNCATED.name].reshape(-1).tolist()
        return [replace(row, truncated=mark) for row, mark in zip(rows, cut, strict=True)]
