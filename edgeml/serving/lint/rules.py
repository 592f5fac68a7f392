"""Every rule, in the order in which findings of one file are made."""

from __future__ import annotations

from edgeml.serving.lint import (
    accelerators,
    batching,
    compatibility,
    contracts,
    devices,
    ensembles,
    layout,
    tensors,
    warmups,
)
from edgeml.serving.lint.findings import Rule
from edgeml.serving.lint.subjects import ConfigFile, Model

MODEL_RULES: tuple[Rule[Model], ...] = (
    *layout.MODEL_RULES,
    *tensors.MODEL_RULES,
    *compatibility.MODEL_RULES,
)
CONFIG_RULES: tuple[Rule[ConfigFile], ...] = (
    *layout.CONFIG_RULES,
    *tensors.CONFIG_RULES,
    *batching.CONFIG_RULES,
    *devices.CONFIG_RULES,
    *accelerators.CONFIG_RULES,
    *warmups.CONFIG_RULES,
    *contracts.CONFIG_RULES,
    *ensembles.CONFIG_RULES,
)
RULES: tuple[Rule[Model] | Rule[ConfigFile], ...] = (*MODEL_RULES, *CONFIG_RULES)
