"""How an image classifier is fine-tuned: values only, so that a recipe reads as data."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from edgeml.errors import InputError
from edgeml.training.text_settings import Precision

ImageClassWeights = Literal["auto", "none", "balanced", "sampling"]
MemoryLayout = Literal["channels_last", "contiguous"]

_DEFAULT_RATE = 2e-3


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What may happen to a training picture.

    Attributes:
        flip: Whether half of the pictures are mirrored left to right.
        max_shift: Largest shift in each direction, as a share of the side; the border is repeated.
        max_rotation: Largest turn in each direction, in degrees.
        min_scale: Least share of a side that is kept when a picture is enlarged; 1 enlarges none.
        max_brightness: Largest change of brightness, as a share of the range of values.
        max_contrast: Largest change of contrast, as a share.
        erase: Share of pictures of which a rectangle is greyed out.
        mixup: Beta distribution's parameter for blending two pictures and their labels; 0 is off.
        cutmix: The same for pasting a rectangle of another picture; with both, each batch draws
            one.
    """

    flip: bool = True
    max_shift: float = 1 / 16
    max_rotation: float = 0.0
    min_scale: float = 1.0
    max_brightness: float = 0.0
    max_contrast: float = 0.0
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        for name in ("max_shift", "max_brightness", "max_contrast", "erase"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(
                    f"{name} is {getattr(self, name)}; a share from 0 to 1 was expected"
                )
        if not 0 < self.min_scale <= 1:
            raise InputError(f"min_scale is {self.min_scale}; above 0, at most 1 was expected")
        if not 0 <= self.max_rotation <= 180:
            raise InputError(f"max_rotation is {self.max_rotation}; 0 to 180 was expected")
        for name in ("mixup", "cutmix"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}; at least 0 was expected")

    @property
    def resamples(self) -> bool:
        """Whether pictures are turned or enlarged, not only moved by whole pixels."""
        return self.max_rotation > 0 or self.min_scale < 1


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How an image classifier is fine-tuned.

    Attributes:
        epochs: Passes over the training part.
        batch_size: Pictures a step, at least 2: batch normalisation needs more than one.
        learning_rate: Peak of AdamW's rate; None takes 0.002, or less where the network's kind
            needs it.
        backbone_rate: Share of that rate for all but the head.
        frozen_epochs: First epochs in which the head alone learns.
        weight_decay: On matrices and filters, not on biases and norms.
        warmup_share: Share of all steps over which the rate rises.
        label_smoothing: Share of probability spread over all classes.
        dropout: Share of values dropped in the dropout layers that the network has; None leaves
            them as they are.
        averaging: Decay of the running average of the weights, which is evaluated beside them and
            kept where it is better; 0 keeps none.
        class_weights: ``balanced`` weighs rare classes more, ``sampling`` draws them more often;
            ``auto`` weighs by the root of their rarity where the largest class is over three times
            the smallest; with any of them macro F1 chooses the epoch.
        precision: ``bf16`` computes steps in bfloat16; ``auto`` measures what is faster. Weights
            and every evaluation are fp32.
        memory_layout: Torch's memory layout of the steps; None measures it where the precision is
            ``auto``, and takes ``channels_last`` where it is given, so that no stopwatch decides.
        distillation: Share of the loss that compares with a teacher's answers, where there is one.
        patience: Epochs without a better one before training stops.
        norm_momentum: Weight of a new batch in the running statistics of batch normalisation.
        seed: Seed of order, augmentation and dropout.
        num_threads: Threads of torch; None takes what affinity and cgroup quota allow.
        augmentation: What happens to the pictures.
    """

    epochs: int = 3
    batch_size: int = 64
    learning_rate: float | None = None
    backbone_rate: float = 1.0
    frozen_epochs: int = 0
    weight_decay: float = 0.05
    warmup_share: float = 0.1
    label_smoothing: float = 0.05
    dropout: float | None = None
    averaging: float = 0.0
    class_weights: ImageClassWeights = "auto"
    precision: Precision = "auto"
    memory_layout: MemoryLayout | None = None
    distillation: float = 0.7
    patience: int = 3
    norm_momentum: float = 0.05
    seed: int = 0
    num_threads: int | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience", "learning_rate", "backbone_rate"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"{name} is {value}; a positive number was expected")
        if self.batch_size < 2:
            raise InputError(
                f"batch_size is {self.batch_size}; at least 2 pictures a step were expected, for "
                "batch normalisation; give more"
            )
        for name in ("warmup_share", "label_smoothing", "norm_momentum", "distillation"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; 0 to 1 was expected")
        for name in ("dropout", "averaging"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise InputError(f"{name} is {value}; at least 0 and below 1 was expected")
        for name in ("weight_decay", "frozen_epochs"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}; at least 0 was expected")
        for name, words in (("class_weights", ImageClassWeights), ("precision", Precision)):
            if getattr(self, name) not in get_args(words):
                expected = ", ".join(get_args(words))
                raise InputError(f"{name} is '{getattr(self, name)}'; {expected} was expected")
        layouts = get_args(MemoryLayout)
        if self.memory_layout is not None and self.memory_layout not in layouts:
            expected = ", ".join(layouts)
            raise InputError(f"memory_layout is '{self.memory_layout}'; {expected} was expected")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed is {self.seed}; 0 to 2**63 - 1 was expected")
        if self.num_threads is not None and self.num_threads < 1:
            raise InputError(f"num_threads is {self.num_threads}; at least 1 was expected")

    @property
    def peak_rate(self) -> float:
        """The peak of the rate."""
        return _DEFAULT_RATE if self.learning_rate is None else self.learning_rate

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return asdict(self)
