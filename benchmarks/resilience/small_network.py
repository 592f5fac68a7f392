"""A small convolutional network for pictures of 28 pixels: the first model of a cascade.

edgeml finetune --data fashion-mnist --model benchmarks.resilience.small_network:small_network
"""

from __future__ import annotations

from typing import Any

from torch import nn

# Channels, and the stride of each convolution of 3 by 3.
_LAYERS = ((24, 2), (48, 1), (96, 2), (96, 1))
_SIDE = 28


def small_network(num_classes: int) -> tuple[nn.Module, dict[str, Any]]:
    """Return an untrained network from float pictures to logits, and what it wants to be fed.

    Args:
        num_classes: Logits.
    """
    layers: list[nn.Module] = []
    width = 3
    for channels, stride in _LAYERS:
        layers += [
            nn.Conv2d(width, channels, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        ]
        width = channels
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes)]
    return nn.Sequential(*layers), {"image_size": _SIDE}
