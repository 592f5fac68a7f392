"""EfficientNet-Lite in plain torch: ReLU6, no squeeze-and-excite, TensorFlow's SAME padding.

Method: Tan and Le, *EfficientNet* (2019), in the "Lite" form of the TensorFlow TPU repository.
The three sizes are rows of one table. Parameter names are ours; ``STARTER_NAMES`` translates the
names of the published PyTorch weights. The module takes normalised float images; scaling belongs
to the contract.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, kw_only=True)
class LiteSize:
    """Scale factors of one member of the family, and the resolution that it was pretrained at."""

    width: float
    depth: float
    image_size: int
    dropout: float


@dataclass(frozen=True, kw_only=True)
class _Stage:
    repeats: int
    kernel: int
    stride: int
    expand: int
    channels: int


SIZES: Mapping[str, LiteSize] = {
    "efficientnet-lite0": LiteSize(width=1.0, depth=1.0, image_size=224, dropout=0.2),
    "efficientnet-lite1": LiteSize(width=1.0, depth=1.1, image_size=240, dropout=0.2),
    "efficientnet-lite2": LiteSize(width=1.1, depth=1.2, image_size=260, dropout=0.3),
}

_STEM_CHANNELS = 32
_HEAD_CHANNELS = 1280
_STAGES = (
    _Stage(repeats=1, kernel=3, stride=1, expand=1, channels=16),
    _Stage(repeats=2, kernel=3, stride=2, expand=6, channels=24),
    _Stage(repeats=2, kernel=5, stride=2, expand=6, channels=40),
    _Stage(repeats=3, kernel=3, stride=2, expand=6, channels=80),
    _Stage(repeats=3, kernel=5, stride=1, expand=6, channels=112),
    _Stage(repeats=4, kernel=5, stride=2, expand=6, channels=192),
    _Stage(repeats=1, kernel=3, stride=1, expand=6, channels=320),
)

STARTER_NAMES = (
    (r"^_conv_stem\.", "stem.conv."),
    (r"^_bn0\.", "stem.norm."),
    (r"^_conv_head\.", "head.conv."),
    (r"^_bn1\.", "head.norm."),
    (r"^_fc\.", "classifier."),
    (r"^_blocks\.(\d+)\._expand_conv\.", r"blocks.\1.expand.conv."),
    (r"^_blocks\.(\d+)\._bn0\.", r"blocks.\1.expand.norm."),
    (r"^_blocks\.(\d+)\._depthwise_conv\.", r"blocks.\1.depthwise.conv."),
    (r"^_blocks\.(\d+)\._bn1\.", r"blocks.\1.depthwise.norm."),
    (r"^_blocks\.(\d+)\._project_conv\.", r"blocks.\1.project.conv."),
    (r"^_blocks\.(\d+)\._bn2\.", r"blocks.\1.project.norm."),
)


class SamePadConv(nn.Module):
    """Convolution whose output is ``ceil(input / stride)`` wide, padded as TensorFlow pads.

    An odd amount of padding goes right and below; the amount depends on the input's size only when
    it is strided, so stride 1 uses the convolution's own symmetric padding.
    """

    def __init__(self, inputs: int, outputs: int, *, kernel: int, stride: int, groups: int) -> None:
        super().__init__()
        self.kernel, self.stride, self.groups = kernel, stride, groups
        self.weight = nn.Parameter(torch.empty(outputs, inputs // groups, kernel, kernel))
        nn.init.kaiming_normal_(self.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``x``: float ``(batch, channels, height, width)``."""
        if self.stride == 1:
            return functional.conv2d(x, self.weight, padding=self.kernel // 2, groups=self.groups)
        rows = _same_padding(x.shape[2], self.kernel, self.stride)
        columns = _same_padding(x.shape[3], self.kernel, self.stride)
        if any(rows) or any(columns):
            x = functional.pad(x, (*columns, *rows))
        return functional.conv2d(x, self.weight, stride=self.stride, groups=self.groups)


def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class ConvNorm(nn.Module):
    """Convolution, batch normalisation and, where asked, ReLU6."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        activation: bool = True,
    ) -> None:
        super().__init__()
        self.conv = SamePadConv(inputs, outputs, kernel=kernel, stride=stride, groups=groups)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x``: float ``(batch, channels, height, width)``."""
        y: Tensor = self.norm(self.conv(x))
        return functional.relu6(y) if self.activation else y


class InvertedResidual(nn.Module):
    """Expand, depthwise, project; with a skip connection where the shape allows one."""

    def __init__(self, inputs: int, stage: _Stage, outputs: int, *, stride: int) -> None:
        super().__init__()
        wide = inputs * stage.expand
        self.expand = ConvNorm(inputs, wide) if stage.expand > 1 else None
        self.depthwise = ConvNorm(wide, wide, kernel=stage.kernel, stride=stride, groups=wide)
        self.project = ConvNorm(wide, outputs, activation=False)
        self.skip = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x``: float ``(batch, channels, height, width)``."""
        y: Tensor = x if self.expand is None else self.expand(x)
        y = self.project(self.depthwise(y))
        return x + y if self.skip else y


class EfficientNetLite(nn.Module):
    """Float ``(batch, 3, height, width)``, normalised, to logits ``(batch, classes)``."""

    def __init__(self, size: LiteSize, *, num_classes: int) -> None:
        super().__init__()
        self.stem = ConvNorm(3, _STEM_CHANNELS, kernel=3, stride=2)
        self.blocks = nn.Sequential(*_blocks(size))
        last = _round_channels(_STAGES[-1].channels * size.width)
        self.head = ConvNorm(last, _HEAD_CHANNELS)
        self.dropout = nn.Dropout(size.dropout)
        self.classifier = nn.Linear(_HEAD_CHANNELS, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, float ``(batch, classes)``."""
        features = self.head(self.blocks(self.stem(x))).mean(dim=(2, 3))
        logits: Tensor = self.classifier(self.dropout(features))
        return logits


def _blocks(size: LiteSize) -> list[InvertedResidual]:
    blocks: list[InvertedResidual] = []
    channels = _STEM_CHANNELS
    for index, stage in enumerate(_STAGES):
        # "Lite" keeps the first and the last stage at their base depth in every size.
        fixed = index in (0, len(_STAGES) - 1)
        repeats = stage.repeats if fixed else math.ceil(stage.repeats * size.depth)
        outputs = _round_channels(stage.channels * size.width)
        for repeat in range(repeats):
            stride = stage.stride if repeat == 0 else 1
            blocks.append(InvertedResidual(channels, stage, outputs, stride=stride))
            channels = outputs
    return blocks


def _round_channels(channels: float, divisor: int = 8) -> int:
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def rename_starter_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate the published weights' parameter names into ours."""
    renamed: dict[str, Tensor] = {}
    for name, value in state.items():
        for pattern, replacement in STARTER_NAMES:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return renamed
