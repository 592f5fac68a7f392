"""How a ranker is built and trained: one frozen value, with defaults that were measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from edgeml.errors import InputError


@dataclass(frozen=True, kw_only=True)
class RankerSettings:
    """Size, regularisation and schedule of a Wide & Deep ranker.

    Attributes:
        hidden: Widths of the deep part's layers.
        embedding: Width of each code's embedding.
        bins: Pieces into which each number is cut, at quantiles of the training rows.
        cross_buckets: Hash buckets of the wide part's crosses; unused without crosses.
        objective: ``pointwise``: each row by itself; ``listwise``: a softmax over the candidates of
            one request, of which some are positive.
        dropout: Share of hidden units left out while training.
        code_dropout: Share of codes replaced by 0 while training: it teaches the row of the
            unknown, and keeps rare codes from being learnt by heart.
        weight_decay: AdamW's, of the layers.
        table_penalty: Weight in the loss of the squares of all embeddings and of the wide part's
            weights. Under Adam it takes rows of rare codes back to zero between the few steps in
            which they occur, which a decay of the weights does not.
        learning_rate: At its peak.
        batch_size: Rows (pointwise) or requests (listwise) a step.
        max_epochs: At most this many passes; early stopping usually ends before.
        checks_per_epoch: Looks at the validation rows per epoch.
        patience: Looks without a better figure before training ends.
        averaging: Decay of the running average of the weights, which is what is kept.
        other_heads: Weight of all heads but the first.
        seed: Of weights, order and dropout.
        num_threads: Threads of torch; None leaves them.
    """

    hidden: tuple[int, ...] = (64, 32)
    embedding: int = 8
    bins: int = 2
    cross_buckets: int = 20_000
    objective: Literal["pointwise", "listwise"] = "pointwise"
    dropout: float = 0.2
    code_dropout: float = 0.1
    weight_decay: float = 0.01
    table_penalty: float = 3e-4
    learning_rate: float = 0.003
    batch_size: int = 1024
    max_epochs: int = 6
    checks_per_epoch: int = 4
    patience: int = 6
    averaging: float = 0.99
    other_heads: float = 0.1
    seed: int = 0
    num_threads: int | None = None

    def __post_init__(self) -> None:
        if self.objective not in ("pointwise", "listwise"):
            raise InputError(
                f"the objective is {self.objective!r}; pointwise or listwise", got=self.objective
            )
        counts = ("embedding", "bins", "cross_buckets", "batch_size", "max_epochs")
        for name in (*counts, "checks_per_epoch", "patience"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; at least 1", got=name)
        for name in ("dropout", "code_dropout", "averaging"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; at least 0, below 1", got=name)
        if not self.hidden or min(self.hidden) < 1:
            raise InputError(f"hidden is {self.hidden}; widths of at least 1", got="hidden")

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RankerSettings:
        """Return the settings that :meth:`to_json` described."""
        return cls(**{**value, "hidden": tuple(value["hidden"])})
