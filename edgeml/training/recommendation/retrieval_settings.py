"""How retrieval models are trained: sizes and schedules; validation chose the defaults."""

from __future__ import annotations

from dataclasses import dataclass

from edgeml.errors import InputError


@dataclass(frozen=True, kw_only=True)
class BprSettings:
    """Matrix factorisation by Bayesian personalised ranking.

    Attributes:
        dimension: Of the vectors, without the item's bias.
        learning_rate: Adam's.
        l2: Penalty on the vectors of the rows in a batch.
        batch: Pairs of a step.
        max_epochs: Passes over the log.
        look_every: Epochs between two looks at the validation figure.
        patience: Looks without a better figure before the training stops.
        seed: Of the start, the order and the negatives.
    """

    dimension: int = 64
    learning_rate: float = 0.003
    l2: float = 0.01
    batch: int = 1024
    max_epochs: int = 120
    look_every: int = 5
    patience: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        check_positive(
            dimension=self.dimension,
            learning_rate=self.learning_rate,
            batch=self.batch,
            max_epochs=self.max_epochs,
            look_every=self.look_every,
            patience=self.patience,
        )


@dataclass(frozen=True, kw_only=True)
class TwoTowerSettings:
    """Two towers, in-batch softmax with popularity correction.

    Attributes:
        width: Of the embeddings of codes.
        hidden: Units of each tower's hidden layer.
        dimension: Of the vectors where the towers meet.
        temperature: The softmax's: cosines are divided by it.
        learning_rate: AdamW's.
        weight_decay: AdamW's.
        dropout: Share of a tower's inputs left out.
        code_dropout: Share of rows whose user or item code is hidden, so that features are learned
            to speak for what training never saw.
        max_history: Last events of a user's history that are read in training.
        batch: Rows of a step, each other's negatives.
        max_epochs: Passes over the log.
        look_every: Epochs between two looks at the validation figure.
        patience: Looks without a better figure before the training stops.
        seed: Of the start, the order and the dropping.
    """

    width: int = 64
    hidden: int = 128
    dimension: int = 64
    temperature: float = 0.15
    learning_rate: float = 0.005
    weight_decay: float = 0.01
    dropout: float = 0.2
    code_dropout: float = 0.1
    max_history: int = 100
    batch: int = 1024
    max_epochs: int = 20
    look_every: int = 1
    patience: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        check_positive(
            width=self.width,
            hidden=self.hidden,
            dimension=self.dimension,
            temperature=self.temperature,
            learning_rate=self.learning_rate,
            max_history=self.max_history,
            batch=self.batch,
            max_epochs=self.max_epochs,
            look_every=self.look_every,
            patience=self.patience,
        )


def check_positive(**values: float) -> None:
    """Refuse settings that are not above zero.

    Raises:
        InputError: One of them is not.
    """
    for name, value in values.items():
        if not value > 0:
            raise InputError(f"{name} is {value}; a number above zero was expected", got=value)
