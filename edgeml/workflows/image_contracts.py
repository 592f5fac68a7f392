"""The input contract of an image model that shall be fine-tuned, and its network, together.

A hub's model brings its own preprocessing: it is read from ``preprocessor_config.json``, proven on
the data's pictures to equal the reference processor within one grey level, and scaled where another
size is asked for. An unknown processor is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgeml.errors import InputError
from edgeml.tasks.image import ImagePreprocessing

if TYPE_CHECKING:
    from torch import nn

    from edgeml.data.dataset import ImageDataset
    from edgeml.training.image_models import ImageModel

DEFAULT_SIZE = 96
_SIZES = (16, 1024)


@dataclass(frozen=True, kw_only=True)
class ContractedModel:
    """A network with a new head, and what its pictures are made into.

    Attributes:
        network: Normalised float images ``(batch, 3, height, width)`` to logits.
        preprocessing: The contract.
        processor_difference: Largest difference from the reference processor in grey levels; None
            without one.
    """

    network: nn.Module
    preprocessing: ImagePreprocessing
    processor_difference: float | None = None


def check_image_size(image_size: int | None) -> None:
    """Refuse a size that no model here can have."""
    if image_size is not None and not _SIZES[0] <= image_size <= _SIZES[1]:
        raise InputError(
            f"the size is {image_size}; {_SIZES[0]} to {_SIZES[1]} was expected",
            item="--image-size",
        )


def contract_model(
    model: ImageModel, dataset: ImageDataset, *, image_size: int | None, seed: int
) -> ContractedModel:
    """Build a network and settle its contract.

    Args:
        model: What was found by name.
        dataset: The data; a hub model's processor is compared on its pictures.
        image_size: Side of the square input; None takes the model's own, or 96.
        seed: Seed of every random value.

    Raises:
        InputError: The processor is unknown, or the network does not take pictures of this size.
    """
    from edgeml.training.image_models import (
        IMAGENET_MEAN,
        IMAGENET_STD,
        build_image_model,
        call_factory,
    )

    classes, difference = len(dataset.labels), None
    if model.where == "factory":
        own = call_factory(model.name, num_classes=classes, seed=seed)
        side = image_size or own.image_size or DEFAULT_SIZE
        preprocessing = ImagePreprocessing(height=side, width=side, mean=own.mean, std=own.std)
        _try_once(own.module, preprocessing, classes, model.name)
        return ContractedModel(network=own.module, preprocessing=preprocessing)
    network = build_image_model(model, num_classes=classes, seed=seed)
    side = image_size or DEFAULT_SIZE
    if model.where == "package":
        from edgeml.training.backbones import find_backbone

        row = find_backbone(model.name)
        preprocessing = ImagePreprocessing(height=side, width=side, mean=row.mean, std=row.std)
    elif model.encoder is None:
        mean, std = (tuple(255 * value for value in row) for row in (IMAGENET_MEAN, IMAGENET_STD))
        preprocessing = ImagePreprocessing(height=side, width=side, mean=mean, std=std)  # type: ignore[arg-type]
    else:
        preprocessing, difference = _processors_contract(model, dataset)
        preprocessing = _scaled(preprocessing, image_size)
        _try_once(network, preprocessing, classes, model.name)
    return ContractedModel(
        network=network, preprocessing=preprocessing, processor_difference=difference
    )


def _processors_contract(
    model: ImageModel, dataset: ImageDataset
) -> tuple[ImagePreprocessing, float]:
    from edgeml.workflows.hugging_face_processors import (
        contract_of,
        load_processor,
        prove_contract,
    )

    assert model.encoder is not None
    processor = load_processor(model.encoder.path, model.name)
    contract = contract_of(processor, model.name)
    return contract, prove_contract(contract, processor, dataset, model.name)


def _scaled(contract: ImagePreprocessing, image_size: int | None) -> ImagePreprocessing:
    """Return the same contract for a square of another size."""
    if image_size is None or image_size == contract.height == contract.width:
        return contract
    edge = contract.resize_edge
    if edge is not None:
        edge = max(image_size, round(edge * image_size / min(contract.height, contract.width)))
    return replace(contract, height=image_size, width=image_size, resize_edge=edge)


def _try_once(
    network: nn.Module, preprocessing: ImagePreprocessing, classes: int, name: str
) -> None:
    """Let a network answer once: a wrong size or output would end a training late."""
    import torch

    height, width = preprocessing.height, preprocessing.width
    network.eval()
    try:
        with torch.inference_mode():
            answer = network(torch.zeros(1, 3, height, width))
    except Exception as exc:  # a module of somebody else's raises anything
        first = (str(exc).splitlines() or [type(exc).__name__])[0]
        raise InputError(
            f"the network does not take a picture of {height}x{width} ({first}); a float tensor "
            "(batch, 3, height, width) is given; choose the --image-size that it was made for",
            item=name,
        ) from exc
    shape = tuple(getattr(answer, "shape", ()))
    if shape != (1, classes):
        raise InputError(
            f"the network answers one picture with the shape {shape or type(answer).__name__}; "
            f"logits of the shape (1, {classes}) were expected",
            item=name,
        )
