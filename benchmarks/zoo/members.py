"""The members, one row each: a new one is a row and a builder."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.zoo.built import Built


@dataclass(frozen=True, kw_only=True)
class Member:
    """One model of the zoo.

    Attributes:
        name: Its row in the table, and its folder.
        builder: ``module:function`` of ``benchmarks.zoo.builders``.
        about: What it is, for the report.
        optimum: Whether optimum's presets are meant for such a model: vision and text.
        transformer: Whether NNCF's transformer scheme is meant for it.
    """

    name: str
    builder: str
    about: str
    optimum: bool = False
    transformer: bool = False

    def build(self) -> Built:
        """Build it; a minute or two."""
        module, _, function = self.builder.partition(":")
        make: Callable[[], Built] = getattr(
            importlib.import_module(f"benchmarks.zoo.builders.{module}"), function
        )
        return make()


MEMBERS: Mapping[str, Member] = {
    row.name: row
    for row in (
        Member(
            name="resnet18",
            builder="images:resnet18",
            about="ResNet-18, 224 px",
            optimum=True,
        ),
        Member(
            name="efficientnet_lite0",
            builder="efficientnet:efficientnet_lite0",
            about="EfficientNet-Lite0, 224 px",
            optimum=True,
        ),
        Member(
            name="efficientnet_lite2",
            builder="efficientnet:efficientnet_lite2",
            about="EfficientNet-Lite2, 260 px",
            optimum=True,
        ),
        Member(
            name="mobilenet_v3_small",
            builder="images:mobilenet_v3_small",
            about="MobileNetV3-Small, 224 px",
            optimum=True,
        ),
        Member(
            name="vit_small",
            builder="images:vit_small",
            about="ViT-S/16, 224 px",
            optimum=True,
            transformer=True,
        ),
        Member(
            name="minilm_l6",
            builder="texts:minilm_l6",
            about="MiniLM-L6, 64 tokens",
            optimum=True,
            transformer=True,
        ),
        Member(
            name="distilbert",
            builder="texts:distilbert",
            about="DistilBERT, 128 tokens",
            optimum=True,
            transformer=True,
        ),
        Member(name="lstm", builder="sequences:lstm", about="2-layer LSTM, 64 tokens"),
        Member(name="gru", builder="sequences:gru", about="2-layer GRU, 64 tokens"),
        Member(name="cnn1d", builder="sequences:cnn1d", about="1-D CNN, 1,024 points"),
        Member(
            name="wide_and_deep",
            builder="tables:wide_and_deep",
            about="wide and deep, 4 ids and 8 numbers",
        ),
        Member(
            name="unet",
            builder="segmentation:unet",
            about="small U-Net, 96 px, no labels",
            optimum=True,
        ),
        Member(name="mlp", builder="tables:mlp", about="perceptron, 3 inputs"),
    )
}
