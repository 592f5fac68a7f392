"""How a text classifier is fine-tuned: values only, so that a recipe reads as data."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from edgeml.errors import InputError

ClassWeights = Literal["none", "balanced"]
Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class TextTrainingSettings:
    """How a text classifier is fine-tuned.

    Attributes:
        epochs: Passes over the training part.
        batch_size: Texts a step.
        learning_rate: Peak of AdamW's rate.
        weight_decay: On matrices, not on biases and norms.
        warmup_share: Share of all steps over which the rate rises; after it, it falls to nothing.
        dropout: Share of values dropped everywhere where the architecture drops any.
        label_smoothing: Share of probability spread over all classes.
        max_length: Tokens after which a text is cut.
        averaging: Decay of the running average of the weights, which is evaluated beside them and
            kept where it is better; 0 keeps none.
        class_weights: ``balanced`` weighs rare classes more, and then macro F1 chooses the weights
            that are kept.
        precision: ``bf16`` computes steps in bfloat16; ``auto`` measures both where the processor
            has instructions for it. Weights, their average and every evaluation are fp32.
        patience: Evaluations without a better one before training stops.
        evaluations_per_epoch: How often the validation part is read in an epoch.
        seed: Seed of order and dropout.
        num_threads: Threads of torch; None takes what affinity and cgroup quota allow.
        layer_decay: Factor of the rate from each layer to the one below; 1 is one rate for all.
    """

    epochs: int = 3
    batch_size: int = 32
    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    warmup_share: float = 0.06
    dropout: float = 0.1
    label_smoothing: float = 0.0
    max_length: int = 128
    averaging: float = 0.99
    class_weights: ClassWeights = "none"
    precision: Precision = "auto"
    patience: int = 2
    evaluations_per_epoch: int = 1
    seed: int = 0
    num_threads: int | None = None
    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience", "evaluations_per_epoch", "learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}; a positive number was expected")
        for name in ("warmup_share", "label_smoothing"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; 0 to 1 was expected")
        for name in ("dropout", "averaging"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(
                    f"{name} is {getattr(self, name)}; at least 0 and below 1 was expected"
                )
        if not 0 < self.layer_decay <= 1:
            raise InputError(f"layer_decay is {self.layer_decay}; above 0, at most 1 was expected")
        if not 0 <= self.weight_decay < math.inf:
            raise InputError(f"weight_decay is {self.weight_decay}; at least 0 was expected")
        if self.max_length < 4:
            raise InputError(f"max_length is {self.max_length}; at least 4 was expected")
        for name, words in (("class_weights", ClassWeights), ("precision", Precision)):
            if getattr(self, name) not in get_args(words):
                expected = ", ".join(get_args(words))
                raise InputError(f"{name} is '{getattr(self, name)}'; {expected} was expected")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed is {self.seed}; 0 to 2**63 - 1 was expected")
        if self.num_threads is not None and self.num_threads < 1:
            raise InputError(f"num_threads is {self.num_threads}; at least 1 was expected")

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return asdict(self)
