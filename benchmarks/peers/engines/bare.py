"""What the two bare peers share: the tokenizer's file to arrays, logits to a label."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer


def open_tokenizer(folder: Path, inputs: Iterable[str]) -> Callable[[str], dict[str, Any]]:
    """Return one text to the model's feed: int64 ``(1, tokens)`` each."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    wanted = set(inputs)

    def feed(text: str) -> dict[str, Any]:
        encoding = tokenizer.encode(text)
        arrays = {
            "input_ids": encoding.ids,
            "attention_mask": encoding.attention_mask,
            "token_type_ids": encoding.type_ids,
        }
        return {
            name: np.array([row], dtype=np.int64) for name, row in arrays.items() if name in wanted
        }

    return feed


def best(logits: npt.NDArray[Any], labels: list[str]) -> tuple[str, float]:
    """Return the best label of one sample and its softmax probability.

    Args:
        logits: float32 ``(1, classes)``.
        labels: One name a class.
    """
    row = logits[0]
    index = int(row.argmax())
    return labels[index], float(1.0 / np.exp(row - row[index]).sum())
