"""Settings by the size of the data: what a user who says nothing gets.

Little data is seen often, changed much and learnt slowly; much data needs none of that. The bounds
were chosen on the data sets of docs/results, and are data themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from torch import nn

from edgeml.errors import InputError
from edgeml.training.settings import Augmentation, TrainingSettings

# How many pictures a training may see in all, and how often it sees each at most.
_PICTURES_SEEN = 30_000
_MAX_EPOCHS = 30
_MIN_EPOCHS = 3
# A handful of pictures in one batch would be a handful of steps in all.
_SMALLEST_BATCH, _LARGEST_BATCH = 8, 32
# AdamW's peak by what a network is built of: layer norms want small steps.
_RATE_BATCH_NORM = 1e-3
_RATE_LAYER_NORM = 1e-4
_RATE_FROM_NOTHING = 1e-3


@dataclass(frozen=True, kw_only=True)
class _Size:
    """A size of data, and what it is given.

    Attributes:
        name: In the report.
        below: Pictures to train on, fewer than this.
        values: Settings that differ from the defaults.
        batches: Batches that an epoch shall have, where that makes them small; 0 leaves their size.
    """

    name: str
    below: float
    values: Mapping[str, Any]
    batches: int = 0


_MILD = Augmentation(
    max_shift=1 / 12, max_rotation=8, min_scale=0.8, max_brightness=0.1, max_contrast=0.1
)
_STRONG = Augmentation(
    max_shift=0.1,
    max_rotation=15,
    min_scale=0.7,
    max_brightness=0.2,
    max_contrast=0.2,
    erase=0.2,
    mixup=0.2,
    cutmix=1.0,
)
_AUGMENTATIONS = {
    "none": Augmentation(flip=False, max_shift=0.0),
    "light": Augmentation(),
    "medium": _MILD,
    "strong": _STRONG,
}
SIZES = (
    _Size(
        name="small",
        below=2_000,
        values={
            "label_smoothing": 0.1,
            "dropout": 0.3,
            "averaging": 0.98,
            "frozen_epochs": 1,
            "backbone_rate": 0.5,
            "patience": 8,
            "norm_momentum": 0.1,
            "augmentation": _STRONG,
        },
        batches=16,
    ),
    _Size(
        name="medium",
        below=20_000,
        values={"averaging": 0.995, "patience": 4, "augmentation": _MILD},
    ),
    _Size(name="large", below=float("inf"), values={}),
)


def automatic_settings(
    num_samples: int, overrides: Mapping[str, Any] | None = None, *, pretrained: bool = True
) -> tuple[TrainingSettings, str]:
    """Choose settings for a number of training pictures.

    Args:
        num_samples: Pictures to train on.
        overrides: What the user decided: fields of TrainingSettings by name, and fields of
            Augmentation, which change the augmentation that is chosen.
        pretrained: Whether the weights are more than random; if not, nothing is held back.

    Returns:
        The settings, and the name of the size of data that they are for.

    Raises:
        InputError: There is no such setting, or it is outside its range.
    """
    size = next(row for row in SIZES if num_samples < row.below)
    of_pictures = {row.name for row in fields(Augmentation)}
    known = of_pictures | {row.name for row in fields(TrainingSettings)}
    given = dict(overrides or {})
    if unknown := sorted(set(given) - known):
        raise InputError(
            f"there is no setting '{unknown[0]}'; {', '.join(sorted(known))} were expected"
        )
    changes = {name: given.pop(name) for name in sorted(of_pictures & set(given))}
    epochs = round(_PICTURES_SEEN / max(1, num_samples))
    values: dict[str, Any] = {
        **size.values,
        "epochs": min(_MAX_EPOCHS, max(_MIN_EPOCHS, epochs)),
        **({} if pretrained else {"frozen_epochs": 0, "backbone_rate": 1.0}),
        **given,
    }
    if size.batches and "batch_size" not in given:
        fitting = num_samples // size.batches
        values["batch_size"] = min(_LARGEST_BATCH, max(_SMALLEST_BATCH, fitting))
    if "frozen_epochs" not in given and values["epochs"] <= values.get("frozen_epochs", 0):
        values["frozen_epochs"] = 0  # or the head alone would ever learn
    settings = TrainingSettings(**values)
    if changes:
        settings = replace(settings, augmentation=replace(settings.augmentation, **changes))
    return settings, size.name


def augmentation_of(name: str) -> Augmentation:
    """Return an augmentation by name: ``none``, ``light``, ``medium`` or ``strong``."""
    return _AUGMENTATIONS[name]


def has_dropout_of_its_head(network: nn.Module) -> bool:
    """Return whether a network drops values in one place: before its head.

    One that drops them in every block was made with its own shares, which are left as they are.
    """
    return sum(isinstance(module, nn.Dropout) for module in network.modules()) == 1


def rate_for(network: nn.Module, *, where: str, pretrained: bool) -> float:
    """Return the peak of the rate for a network that the settings name none for.

    Args:
        network: The network.
        where: Who carries it; the packaged backbones were measured.
        pretrained: Whether its weights are more than random.
    """
    if not pretrained:
        return _RATE_FROM_NOTHING
    if where == "package":
        return TrainingSettings().peak_rate
    norms = any(isinstance(module, nn.LayerNorm) for module in network.modules())
    return _RATE_LAYER_NORM if norms else _RATE_BATCH_NORM
