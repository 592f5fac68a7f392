"""An image classifier that somebody else trained: its processor, its classes, its answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from edgeml.core.progress import silent
from edgeml.errors import DataError, InputError
from edgeml.tasks.image import ImagePreprocessing
from edgeml.workflows.hugging_face_image_source import open_hugging_face_image_source
from edgeml.workflows.hugging_face_processors import contract_of
from edgeml.workflows.sources import Source
from tests.unit.exporting.cores import run, softmax

LABELS = ("crimson", "lime", "navy")
SIDE = 32
# Width, height: wide, tall, odd, smaller than the model's pictures, larger.
SIZES = ((50, 37), (37, 50), (33, 33), (20, 31), (301, 111), (64, 64))

NETWORKS: dict[str, Any] = {
    "resnet": (transformers.ResNetConfig, {"embedding_size": 8, "hidden_sizes": [8, 8, 8, 8],
                                           "depths": [1, 1, 1, 1], "layer_type": "basic"}),
    "vit": (transformers.ViTConfig, {"hidden_size": 16, "num_hidden_layers": 1,
                                     "num_attention_heads": 2, "intermediate_size": 16,
                                     "image_size": SIDE, "patch_size": 8}),
    "convnext": (transformers.ConvNextConfig, {"hidden_sizes": [8, 8, 8, 8],
                                               "depths": [1, 1, 1, 1]}),
    "mobilenet": (transformers.MobileNetV2Config, {"depth_multiplier": 0.25, "min_depth": 8,
                                                   "depth_divisible_by": 8, "image_size": SIDE}),
    "efficientnet": (transformers.EfficientNetConfig, {
        "width_coefficient": 0.25, "depth_coefficient": 0.3, "hidden_dim": 320,
        "image_size": SIDE}),
}  # fmt: skip
PROCESSORS: dict[str, Any] = {
    "resnet": transformers.ConvNextImageProcessor(size={"shortest_edge": SIDE}, crop_pct=0.875),
    "vit": transformers.ViTImageProcessor(size={"height": SIDE, "width": SIDE}),
    "convnext": transformers.ConvNextImageProcessor(
        size={"shortest_edge": SIDE}, crop_pct=0.95, resample=3
    ),
    "mobilenet": transformers.MobileNetV2ImageProcessor(
        size={"shortest_edge": 36}, crop_size={"height": SIDE, "width": SIDE}
    ),
    "efficientnet": transformers.EfficientNetImageProcessor(
        size={"height": SIDE, "width": SIDE}, resample=3, include_top=True
    ),
}


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Torch has one number of threads for the whole process: put it back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _model(
    folder: Path,
    kind: str = "resnet",
    processor: Any = None,
    labels: tuple[str, ...] = LABELS,
    **options: Any,
) -> Path:
    """Write a tiny model and its processor as their makers would."""
    config_class, small = NETWORKS[kind]
    names = {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
    }
    config = config_class(**small, **names, **options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = transformers.AutoModelForImageClassification.from_config(config)
    model.save_pretrained(folder)
    (processor or PROCESSORS[kind]).save_pretrained(folder)
    return folder


def _pictures(folder: Path, names: tuple[str, ...] = LABELS, *, count: int = 6) -> Path:
    """Write class folders of noisy pictures of many sizes."""
    rng = np.random.default_rng(0)
    for index, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            width, height = SIZES[number % len(SIZES)]
            pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            pixels[:, :, index % 3] |= 192
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def _open(folder: Path, data: Path | None) -> Source:
    return open_hugging_face_image_source(str(folder), data, seed=0, progress=silent)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return _pictures(tmp_path / "pictures")


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_source_answers_as_their_library_does(kind: str, tmp_path: Path, data: Path) -> None:
    folder = _model(tmp_path / "theirs", kind)
    source = _open(folder, data)
    assert source.task_name == "image-classification"
    assert (source.labels, source.foreign) == (LABELS, True)
    assert str(tmp_path) not in json.dumps(source.provenance)
    indices = np.arange(len(SIZES))
    pictures = [Image.open(source.items[index]) for index in indices]
    processor = transformers.AutoImageProcessor.from_pretrained(folder, use_fast=False)
    network = transformers.AutoModelForImageClassification.from_pretrained(folder)
    with torch.inference_mode():
        feed = processor(images=pictures, return_tensors="pt")
        wanted = network(**feed).logits.softmax(dim=1).numpy()
    samples = source.prepare(indices)
    np.testing.assert_allclose(source.reference(samples, 1).probabilities, wanted, atol=2e-3)
    contract = ImagePreprocessing.from_json(source.preprocessing)
    core = source.make_core()
    images = samples.feed(range(len(samples)))["image"]
    logits = run(core, {"pixels": contract.normalise(images)})
    np.testing.assert_allclose(softmax(logits), wanted, atol=2e-3)


GEOMETRIES: dict[str, Any] = {
    "exact": (transformers.ViTImageProcessor(size={"height": 20, "width": 30}), (20, 30)),
    "stretch-and-cut": (
        transformers.DeiTImageProcessor(
            size={"height": 36, "width": 36}, crop_size={"height": 32, "width": 32}
        ),
        (32, 32),
    ),
    "clip": (
        transformers.CLIPImageProcessor(
            size={"shortest_edge": 33}, crop_size={"height": 32, "width": 30}
        ),
        (32, 30),
    ),
    "dinov2": (
        transformers.BitImageProcessor(
            size={"shortest_edge": 37}, crop_size={"height": 32, "width": 32}, resample=3
        ),
        (32, 32),
    ),
    "levit": (
        transformers.LevitImageProcessor(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
        ),
        (32, 32),
    ),
    "poolformer": (
        transformers.PoolFormerImageProcessor(
            size={"shortest_edge": 32}, crop_pct=0.9, crop_size={"height": 32, "width": 32}
        ),
        (32, 32),
    ),
    "large-convnext": (
        transformers.ConvNextImageProcessor(size={"shortest_edge": 384}),
        (384, 384),
    ),
    "no-normalisation": (
        transformers.ViTImageProcessor(size={"height": 32, "width": 32}, do_normalize=False),
        (32, 32),
    ),
    "no-rescaling": (
        transformers.ViTImageProcessor(
            size={"height": 32, "width": 32}, do_rescale=False, image_mean=[120.0, 110.0, 100.0],
            image_std=[60.0, 50.0, 40.0],
        ),
        (32, 32),
    ),
    "offset": (
        transformers.EfficientNetImageProcessor(
            size={"height": 32, "width": 32}, rescale_factor=1 / 127.5, rescale_offset=True,
            resample=2,
        ),
        (32, 32),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", GEOMETRIES)
@pytest.mark.parametrize("size", [*SIZES, (1000, 700), (32, 32), (36, 900)], ids=str)
def test_the_contract_is_the_processor_within_a_grey_level(
    kind: str, size: tuple[int, int]
) -> None:
    processor, shape = GEOMETRIES[kind]
    contract = contract_of(processor, "theirs")
    assert (contract.height, contract.width) == shape
    pixels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    ours = contract.normalise(contract.prepare(pixels)[None])
    theirs = processor(images=Image.fromarray(pixels), return_tensors="np")["pixel_values"]
    std = np.array(contract.std).reshape(3, 1, 1)
    assert (np.abs(ours - theirs) * std).max() <= 1.01


REFUSED: dict[str, Any] = {
    "no-crop": (
        transformers.CLIPImageProcessor(size={"shortest_edge": 32}, do_center_crop=False),
        "CLIPImageProcessor has settings without a counterpart .the size.*without a crop",
    ),
    "no-resize": (
        transformers.ViTImageProcessor(do_resize=False),
        "ViTImageProcessor does not resize",
    ),
    "channels": (
        transformers.MobileViTImageProcessor(
            size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}
        ),
        "MobileViTImageProcessor has the step do_flip_channel_order",
    ),
    "padding": (
        transformers.CLIPImageProcessor(
            size={"shortest_edge": 16}, crop_size={"height": 32, "width": 32}
        ),
        "resize_edge is at least height and width",
    ),
    "filter": (
        transformers.ViTImageProcessor(size={"height": 32, "width": 32}, resample=4),
        "the filter box",
    ),
    "cut-first": (
        transformers.PerceiverImageProcessor(
            size={"height": 32, "width": 32}, crop_size={"height": 32, "width": 32}
        ),
        r"PerceiverImageProcessor gives values that differ by \d+",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_processors_that_do_something_else_are_refused(
    kind: str, tmp_path: Path, data: Path
) -> None:
    processor, found = REFUSED[kind]
    folder = _model(tmp_path / "theirs", "resnet", processor)
    with pytest.raises(InputError, match=found) as caught:
        _open(folder, data)
    assert "\n" not in str(caught.value)


def test_a_misread_processor_is_noticed(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _model(tmp_path / "theirs", "resnet")
    real = transformers.ConvNextImageProcessor.normalize

    def other(self: Any, image: Any, **options: Any) -> Any:
        return real(self, image, **options) + 0.05

    monkeypatch.setattr(transformers.ConvNextImageProcessor, "normalize", other)
    with pytest.raises(InputError, match=r"differ by 6\.38 grey levels"):  # 0.05 * 127.5
        _open(folder, data)


@pytest.mark.parametrize(
    ("theirs", "ours", "labels", "lime"),
    [
        (("Lime", "Navy", "Crimson"), LABELS, ("Lime", "Navy", "Crimson"), 0),
        (("a", "b", "c"), ("0", "1", "2"), ("a", "b", "c"), 1),
        (("LABEL_0", "LABEL_1", "LABEL_2"), ("0", "1", "2"), ("0", "1", "2"), 1),
        ((*LABELS, "crane", "crane"), LABELS, (*LABELS, "crane (3)", "crane (4)"), 1),
    ],
)
def test_classes_are_matched_and_need_not_all_have_pictures(
    theirs: tuple[str, ...],
    ours: tuple[str, ...],
    labels: tuple[str, ...],
    lime: int,
    tmp_path: Path,
) -> None:
    folder = _model(tmp_path / "theirs", labels=theirs)
    source = _open(folder, _pictures(tmp_path / "pictures", ours))
    assert source.labels == labels
    assert source.targets is not None
    second = [item for item, one in zip(source.items, source.targets, strict=True) if one == lime]
    assert {path.parent.name for path in second} == {ours[1]}
    assert len(second) == 6
    assert min(map(len, (source.split.train, source.split.validation, source.split.test))) == 3


def test_other_classes_no_data_and_no_head_are_refused(tmp_path: Path, data: Path) -> None:
    folder = _model(tmp_path / "theirs", labels=("red", "green", "blue"))
    with pytest.raises(DataError, match="its classes are crimson, lime, navy"):
        _open(folder, data)
    with pytest.raises(InputError, match="brings no data to prove it on"):
        _open(folder, None)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["ResNetModel"]}))
    with pytest.raises(InputError, match="architecture is ResNetModel; one for image"):
        _open(folder, data)


def test_a_model_without_its_processor_or_weights_is_refused(tmp_path: Path, data: Path) -> None:
    folder = _model(tmp_path / "theirs")
    kept = (folder / "preprocessor_config.json").read_bytes()
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match="the image processor cannot be loaded") as caught:
        _open(folder, data)
    assert "\n" not in str(caught.value)
    (folder / "preprocessor_config.json").write_bytes(kept)
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match="the classifier cannot be used"):
        _open(folder, data)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="it has no weights"):
        _open(folder, data)


def test_missing_tensors_are_no_random_values(tmp_path: Path, data: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = _model(tmp_path / "theirs")
    tensors = load_file(folder / "model.safetensors")
    del tensors["classifier.1.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"1 tensors are missing, such as classifier\.1\.weight"):
        _open(folder, data)


def test_a_processor_for_another_size_is_refused(tmp_path: Path, data: Path) -> None:
    processor = transformers.ViTImageProcessor(size={"height": 48, "width": 48})
    folder = _model(tmp_path / "theirs", "vit", processor)
    with pytest.raises(InputError, match="for pictures of 48x48 were expected"):
        _open(folder, data)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"num_channels": 1}, "takes pictures of 1 channels"),
        ({"problem_type": "multi_label_classification"}, "is for multi_label_classification"),
    ],
)
def test_other_kinds_of_classifiers_are_refused(
    options: dict[str, Any], found: str, tmp_path: Path, data: Path
) -> None:
    with pytest.raises(InputError, match=found):
        _open(_model(tmp_path / "theirs", **options), data)
