"""Which image classifier shall be fine-tuned: a packaged backbone, a hub's model, or one's own.

Each is found by name before any data is read, builds its network with a new head, and is described
in the checkpoint as data from which the same network is built again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from edgeml._optional import require
from edgeml.core.factories import current_folder_first, find_factory, looks_like_factory
from edgeml.errors import InputError
from edgeml.training.backbones import BACKBONES, Weights, build, find_backbone

if TYPE_CHECKING:
    from edgeml.training.encoders import Encoder

RESNET_18 = "resnet-18"
_RESNET_18_ID = "microsoft/resnet-18"
# Channel means and deviations of ImageNet, on the 0..1 scale, as torchvision's models take them.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_FUNCTION = "a function of the number of classes that returns a module"
_RETURNED = "an nn.Module, or (module, dict) with image_size, mean and std on the 0..1 scale"

Triple = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class ImageModel:
    """An image classifier that can be fine-tuned.

    Attributes:
        name: What a checkpoint calls it.
        where: Who carries it.
        architecture: How to build the network again, as JSON values.
        weights: What the network starts from.
        sha256: Hash of the starter weights, or None.
        licence: Their licence, or None where nobody says.
        revision: The hub's commit, or None.
        encoder: A hub model's files, or None.
    """

    name: str
    where: Literal["package", "folder", "hub", "factory", "built in"]
    architecture: Mapping[str, Any]
    weights: str
    sha256: str | None = None
    licence: str | None = None
    revision: str | None = None
    encoder: Encoder | None = None


@dataclass(frozen=True, kw_only=True)
class OwnModule:
    """What a user's factory gave.

    Attributes:
        module: Normalised float images ``(batch, 3, height, width)`` to logits.
        image_size: Side of its pictures, or None.
        mean: Channel means on the 0..255 scale.
        std: Channel deviations, likewise.
    """

    module: nn.Module
    image_size: int | None
    mean: Triple
    std: Triple


def find_image_model(name: str, *, weights: Weights) -> ImageModel:
    """Find a model by what a user calls it.

    Args:
        name: A row of ``BACKBONES``, ``resnet-18``, a folder in the hub's layout, a hub id, or
            ``package.module:factory``.
        weights: ``pretrained``, or ``random`` to start from nothing.

    Raises:
        InputError: There is no such model, or it lacks files.
        DataError: The hub cannot be reached.
        MissingExtraError: A model of a hub, and the extra [hf] is not installed.
    """
    if name in BACKBONES:
        row = find_backbone(name)
        return ImageModel(
            name=name,
            where="package",
            architecture={"kind": "packaged"},
            weights=weights,
            sha256=row.sha256 if weights == "pretrained" else None,
            licence=row.licence,
        )
    if looks_like_factory(name) and not Path(name).exists():
        if weights == "random":
            raise InputError(
                "a factory decides itself what its module starts from; --weights random is for "
                "named models; leave it out",
                item=name,
            )
        architecture = {"kind": "factory", "factory": name}
        return ImageModel(
            name=name, where="factory", architecture=architecture, weights="the factory's"
        )
    return _hub_model(name, weights)


def _hub_model(name: str, weights: Weights) -> ImageModel:
    if name != RESNET_18 and not Path(name).is_dir() and "/" not in name:
        known = ", ".join((*BACKBONES, RESNET_18))
        raise InputError(
            f"there is no model '{name}'; known are {known}, and a folder in the hub's layout, a "
            "hub id such as org/name, or package.module:factory was expected else; choose one",
            item="--model",
        )
    require("transformers", extra="hf")
    from edgeml.training import hub_classifiers
    from edgeml.training.encoders import find_encoder
    from edgeml.training.hub import IMAGE_FILES

    if name == RESNET_18 and weights == "random":
        architecture = {"kind": "hub", "config": hub_classifiers.resnet_18_config()}
        return ImageModel(name=name, where="built in", architecture=architecture, weights=weights)
    place = _RESNET_18_ID if name == RESNET_18 and not Path(name).is_dir() else name
    encoder = find_encoder(place, weights=weights, needed=IMAGE_FILES)
    return ImageModel(
        name=encoder.name if encoder.where == "hub" else encoder.path.absolute().name,
        where=encoder.where,
        architecture={"kind": "hub", "config": hub_classifiers.read_hub_config(encoder)},
        weights=weights,
        sha256=encoder.sha256 if weights == "pretrained" else None,
        licence=encoder.licence,
        revision=encoder.revision,
        encoder=encoder,
    )


def build_image_model(model: ImageModel, *, num_classes: int, seed: int) -> nn.Module:
    """Build a model's network with a new head.

    Args:
        model: What :func:`find_image_model` gave; not a factory's, see :func:`call_factory`.
        num_classes: Outputs of the new head.
        seed: Seed of every random value.

    Raises:
        InputError: Its weights do not fit its configuration.
        DataError: A package's weights are not the published ones.
        MissingExtraError: The package that carries the weights is not installed.
    """
    if model.where == "package":
        weights: Weights = "random" if model.weights == "random" else "pretrained"
        return build(find_backbone(model.name), num_classes=num_classes, weights=weights, seed=seed)
    from edgeml.training import hub_classifiers

    config = model.architecture["config"]
    if model.weights == "random":
        return hub_classifiers.build_hub_classifier(
            config, num_classes=num_classes, seed=seed, name=model.name
        )
    assert model.encoder is not None
    return hub_classifiers.load_hub_classifier(
        model.encoder, config, num_classes=num_classes, seed=seed
    )


def rebuild_image_model(
    name: str, architecture: Mapping[str, Any], *, num_classes: int
) -> nn.Module:
    """Build a checkpoint's network again; its weights are still to be loaded.

    Args:
        name: The checkpoint's model.
        architecture: What its :class:`ImageModel` said; empty means a packaged backbone.
        num_classes: Outputs of its head.

    Raises:
        InputError: There is no such model any more, or a factory gives something else.
        MissingExtraError: It is a model of a hub, and the extra [hf] is not installed.
    """
    kind = architecture.get("kind", "packaged")
    if kind == "factory":
        return call_factory(architecture["factory"], num_classes=num_classes, seed=0).module
    if kind == "hub":
        require("transformers", extra="hf")
        from edgeml.training.hub_classifiers import build_hub_classifier

        return build_hub_classifier(
            architecture["config"], num_classes=num_classes, seed=0, name=name
        )
    # The starter weights would be overwritten at once: random ones cost no package and no file.
    return build(find_backbone(name), num_classes=num_classes, weights="random", seed=0)


def call_factory(name: str, *, num_classes: int, seed: int) -> OwnModule:
    """Import a user's factory and let it make a module.

    Args:
        name: ``package.module:factory``; the current folder is searched first.
        num_classes: What the factory is called with.
        seed: Seed of torch's random values meanwhile.

    Raises:
        InputError: There is no such factory, it raises, or it returns something else.
    """
    with current_folder_first():
        factory = find_factory(name, wanted=_FUNCTION)
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                made = factory(num_classes)
        except (Exception, SystemExit) as exc:  # it is the user's code: it raises anything
            raise InputError(
                f"the factory raised {type(exc).__name__}: {exc}; it is called with the number of "
                f"classes, and {_RETURNED} was expected",
                item=name,
            ) from exc
    module, options = made if isinstance(made, tuple) and len(made) == 2 else (made, {})
    if not isinstance(module, nn.Module) or not isinstance(options, Mapping):
        raise InputError(
            f"the factory returned a {type(made).__name__}; {_RETURNED} was expected", item=name
        )
    return _own_module(module.cpu().float(), options, name)


def _own_module(module: nn.Module, options: Mapping[str, Any], name: str) -> OwnModule:
    unknown = sorted(set(options) - {"image_size", "mean", "std"})
    try:
        size = options.get("image_size")
        mean = _scaled(options.get("mean", IMAGENET_MEAN))
        std = _scaled(options.get("std", IMAGENET_STD))
        if unknown or any(value > 255 for value in (*mean, *std)) or min(std) <= 0:
            raise ValueError(f"{', '.join(unknown) or 'mean or std'} has no meaning here")
        return OwnModule(
            module=module, image_size=None if size is None else int(size), mean=mean, std=std
        )
    except (TypeError, ValueError) as exc:
        raise InputError(
            f"the factory's options cannot be used ({exc}); {_RETURNED} was expected", item=name
        ) from exc


def _scaled(values: Any) -> Triple:
    first, second, third = (float(value) * 255 for value in values)
    return first, second, third
