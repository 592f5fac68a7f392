"""An image classifier that somebody else trained, in the hub's layout, as the source of an export.

Its processor becomes this library's image contract, and is proven to; its classes are matched with
the data's by name, whatever their case and order, or by number.
"""

from __future__ import annotations

import platform
from collections import Counter
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import transformers
from safetensors import SafetensorError
from torch import nn

from edgeml.core.progress import Progress
from edgeml.data.dataset import ImageDataset, make_split
from edgeml.data.opening import open_image_data
from edgeml.errors import InputError
from edgeml.exporting.declared import first_line
from edgeml.tasks.image import ImagePreprocessing
from edgeml.training import encoders
from edgeml.training.checkpoint import Checkpoint
from edgeml.training.hub import IMAGE_FILES
from edgeml.training.hub_classifiers import PixelsToLogits
from edgeml.training.text_architectures import quiet
from edgeml.workflows.hugging_face_processors import contract_of, load_processor, prove_contract
from edgeml.workflows.hugging_face_source import match_labels
from edgeml.workflows.image_source import image_source_of
from edgeml.workflows.sources import Source
from edgeml.workflows.training_options import IMAGE_TASK

_HEAD = "ForImageClassification"


def open_hugging_face_image_source(
    name: str, data: str | Path | None, *, seed: int, progress: Progress
) -> Source:
    """Put an image classifier from elsewhere and the data to prove it on together.

    Args:
        name: A folder in the hub's layout, or a hub id.
        data: Labelled pictures of the model's classes, which it was not trained on; they need not
            have all of the classes.
        seed: Seed of the split.
        progress: Told while pictures are prepared, the model is traced and quantized.

    Raises:
        InputError: It is no image classifier, its processor does what edgeml cannot, or no data was
            given.
        DataError: The data is unfit, or the hub cannot be reached.
    """
    encoder = encoders.find_encoder(name, needed=IMAGE_FILES)
    config = _config(encoder)
    if data is None:
        raise InputError(
            "a model from elsewhere brings no data to prove it on; give labelled pictures that it "
            "was not trained on with --data",
            item=name,
        )
    dataset = open_image_data(data)
    # Before classes without pictures come in, which no split could have in every part.
    split = make_split(dataset, seed=seed)
    # It reads labels and targets alone, which pictures have as texts do.
    dataset = cast("ImageDataset", match_labels(cast("Any", dataset), _labels(config)))
    processor = load_processor(encoder.path, name)
    contract = contract_of(processor, name)
    difference = prove_contract(contract, processor, dataset, name)
    network = _load(encoder, contract, num_labels=config.num_labels)
    checkpoint = Checkpoint(
        task=IMAGE_TASK,
        model=encoder.name if encoder.where == "hub" else encoder.path.absolute().name,
        labels=dataset.labels,
        preprocessing=contract.to_json(),
        data={"name": dataset.name, "fingerprint": None, "source": dict(dataset.source)},
        split={},
        seen=np.zeros(0, dtype=np.uint64),
        training={
            "accuracy": None,
            "settings": {
                "processor": type(processor).__name__,
                "processor_difference_levels": difference,
            },
        },
        provenance={"versions": _versions()},
    )
    return image_source_of(
        checkpoint,
        network,
        dataset,
        given=True,
        seed=seed,
        progress=progress,
        foreign_split=split,
    )


def _config(encoder: encoders.Encoder) -> Any:
    """Return the configuration of a classifier of three-channel pictures, one class each."""
    try:
        with quiet():
            config = transformers.AutoConfig.from_pretrained(
                encoder.path, local_files_only=True, trust_remote_code=False
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as exc:
        raise InputError(
            f"config.json cannot be used ({first_line(exc)}); a model that transformers knows was "
            "expected",
            item=encoder.name,
        ) from exc
    if not any(row.endswith(_HEAD) for row in config.architectures or ()):
        found = ", ".join(config.architectures or ()) or "none"
        raise InputError(
            f"the model's architecture is {found}; one for image classification was expected; "
            "choose a model with a classification head",
            item=encoder.name,
        )
    if getattr(config, "num_channels", 3) != 3:
        raise InputError(
            f"the model takes pictures of {config.num_channels} channels; 3 were expected",
            item=encoder.name,
        )
    if config.problem_type not in (None, "single_label_classification"):
        raise InputError(
            f"the model is for {config.problem_type}; one class a picture was expected",
            item=encoder.name,
        )
    return config


def _labels(config: Any) -> tuple[str, ...]:
    """Return the model's classes in its order, each by a name of its own.

    ImageNet has two kinds of crane: names that come twice get their number.
    """
    names = [str(config.id2label[index]) for index in range(config.num_labels)]
    counts = Counter(names)
    return tuple(
        f"{name} ({index})" if counts[name] > 1 else name for index, name in enumerate(names)
    )


def _load(encoder: encoders.Encoder, contract: ImagePreprocessing, *, num_labels: int) -> nn.Module:
    """Load a classifier of which every tensor is in its file, and let it answer once."""
    auto: Any = transformers.AutoModelForImageClassification
    try:
        with quiet():
            model, found = auto.from_pretrained(
                encoder.path,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
        if found["missing_keys"] or found["mismatched_keys"]:
            lacking = sorted(map(str, (*found["missing_keys"], *found["mismatched_keys"])))
            raise ValueError(f"{len(lacking)} tensors are missing, such as {lacking[0]}")
        network = PixelsToLogits(model.float()).eval()
        with torch.inference_mode():
            shape = network(torch.zeros(1, 3, contract.height, contract.width)).shape
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as exc:
        raise InputError(
            f"the classifier cannot be used ({first_line(exc)}); complete weights, those of its "
            f"head included, for pictures of {contract.height}x{contract.width} were expected; "
            "download it again, with its own preprocessor_config.json",
            item=encoder.name,
        ) from exc
    if tuple(shape) != (1, num_labels):
        raise InputError(
            f"the classifier answers one picture with the shape {tuple(shape)}; (1, {num_labels}) "
            "was expected",
            item=encoder.name,
        )
    return network


def _versions() -> dict[str, str]:
    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
