"""What a worker knows of a peer. Standard library only: it is imported in every environment."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a peer's files lie.

    Attributes:
        checkpoint: The fine-tuned model, a Hugging Face folder.
        bundle: Our bundle of it.
        model: The prepared artefact that the peer runs, or is prepared from.
        variant: For our bundle: the variant.
    """

    checkpoint: Path
    bundle: Path | None = None
    model: Path | None = None
    variant: str | None = None

    @property
    def labels(self) -> list[str]:
        """Names of the classes, in the order of the model's outputs."""
        config = json.loads((self.checkpoint / "config.json").read_text(encoding="utf-8"))
        names = {int(index): name for index, name in config["id2label"].items()}
        return [names[index] for index in range(len(names))]


@dataclass(frozen=True, kw_only=True)
class OpenPeer:
    """A peer that is ready to answer, on one thread.

    Attributes:
        answer: One text to its label and that label's probability.
        answer_all: A list of texts to their labels, as this peer would do a whole list.
        model_alone: A text to a call that runs the model on tensors prepared beforehand.
        facts: What the report shall say of it.
    """

    answer: Callable[[str], tuple[str, float]]
    answer_all: Callable[[Sequence[str]], list[str]] | None = None
    model_alone: Callable[[str], Callable[[], object]] | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
