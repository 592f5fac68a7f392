"""MobileNetV3-Small in plain torch: squeeze-and-excite, hard swish, depthwise convolutions.

Method: Howard et al., *Searching for MobileNetV3* (2019), table 2.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class _Row:
    """One inverted residual."""

    kernel: int
    wide: int
    outputs: int
    squeeze: bool
    hard_swish: bool
    stride: int


def _row(kernel: int, wide: int, outputs: int, kind: str, stride: int) -> _Row:
    """``kind``: ``S`` squeezes, ``H`` has the hard swish."""
    return _Row(
        kernel=kernel,
        wide=wide,
        outputs=outputs,
        squeeze="S" in kind,
        hard_swish="H" in kind,
        stride=stride,
    )


_ROWS = (
    _row(3, 16, 16, "S", 2),
    _row(3, 72, 24, "", 2),
    _row(3, 88, 24, "", 1),
    _row(5, 96, 40, "SH", 2),
    _row(5, 240, 40, "SH", 1),
    _row(5, 240, 40, "SH", 1),
    _row(5, 120, 48, "SH", 1),
    _row(5, 144, 48, "SH", 1),
    _row(5, 288, 96, "SH", 2),
    _row(5, 576, 96, "SH", 1),
    _row(5, 576, 96, "SH", 1),
)
_STEM, _LAST, _HIDDEN = 16, 576, 1024


def _convolution(
    inputs: int,
    outputs: int,
    activation: nn.Module | None,
    *,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
) -> nn.Sequential:
    padding = kernel // 2
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, *([activation] if activation else []))


class SqueezeExcite(nn.Module):
    """Weigh channels by what the whole picture says of them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        middle = max(8, (channels // 4 + 4) // 8 * 8)
        self.reduce = nn.Conv2d(channels, middle, 1)
        self.expand = nn.Conv2d(middle, channels, 1)
        self.relu, self.gate = nn.ReLU(), nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x``: float32 ``(batch, channels, height, width)``."""
        weights = x.mean(dim=(2, 3), keepdim=True)
        weighed: Tensor = x * self.gate(self.expand(self.relu(self.reduce(weights))))
        return weighed


class InvertedResidual(nn.Module):
    """Expand, depthwise, squeeze, project; a skip connection where the shape allows one."""

    def __init__(self, inputs: int, row: _Row) -> None:
        super().__init__()
        activation = nn.Hardswish if row.hard_swish else nn.ReLU
        layers = [_convolution(inputs, row.wide, activation())] if row.wide != inputs else []
        layers.append(
            _convolution(
                row.wide,
                row.wide,
                activation(),
                kernel=row.kernel,
                stride=row.stride,
                groups=row.wide,
            )
        )
        squeeze = [SqueezeExcite(row.wide)] if row.squeeze else []
        self.layers = nn.Sequential(*layers, *squeeze, _convolution(row.wide, row.outputs, None))
        self.skip = row.stride == 1 and inputs == row.outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x``: float32 ``(batch, channels, height, width)``."""
        y: Tensor = self.layers(x)
        return x + y if self.skip else y


class MobileNetV3Small(nn.Module):
    """float32 ``(batch, 3, height, width)`` to logits ``(batch, classes)``."""

    def __init__(self, *, num_classes: int) -> None:
        super().__init__()
        self.stem = _convolution(3, _STEM, nn.Hardswish(), kernel=3, stride=2)
        channels, blocks = _STEM, []
        for row in _ROWS:
            blocks.append(InvertedResidual(channels, row))
            channels = row.outputs
        self.blocks = nn.Sequential(*blocks)
        self.last = _convolution(channels, _LAST, nn.Hardswish())
        self.hidden = nn.Sequential(nn.Linear(_LAST, _HIDDEN), nn.Hardswish())
        self.classifier = nn.Linear(_HIDDEN, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """Return what the head sees: float32 ``(batch, 1024)``."""
        hidden: Tensor = self.hidden(self.last(self.blocks(self.stem(x))).mean(dim=(2, 3)))
        return hidden

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.classifier(self.features(x))
        return logits
