"""The families of text encoders that can be fine-tuned: what differs between them, as rows."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import transformers

from edgeml.tasks.text import ATTENTION_MASK, INPUT_IDS, TOKEN_TYPE_IDS


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What differs between families of encoders.

    Attributes:
        token_types: Whether the model takes ``token_type_ids``.
        positions_after_padding: Whether positions are counted from the padding id on, so that the
            table of positions is that much longer than a text may be.
        dropouts: Settings of dropout in the configuration.
    """

    token_types: bool = False
    positions_after_padding: bool = False
    dropouts: tuple[str, ...] = (
        "hidden_dropout_prob",
        "attention_probs_dropout_prob",
        "classifier_dropout",
    )


_ROBERTA = Architecture(positions_after_padding=True)
ARCHITECTURES: Mapping[str, Architecture] = {
    "albert": Architecture(
        token_types=True,
        dropouts=(
            "hidden_dropout_prob",
            "attention_probs_dropout_prob",
            "classifier_dropout_prob",
        ),
    ),
    "bert": Architecture(token_types=True),
    "camembert": _ROBERTA,
    "distilbert": Architecture(dropouts=("dropout", "attention_dropout", "seq_classif_dropout")),
    "electra": Architecture(token_types=True),
    "mpnet": _ROBERTA,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
}


def model_inputs(config: Any) -> tuple[str, ...]:
    """Return the names of the tensors that an encoder takes."""
    if ARCHITECTURES[config.model_type].token_types:
        return INPUT_IDS, ATTENTION_MASK, TOKEN_TYPE_IDS
    return INPUT_IDS, ATTENTION_MASK


def max_positions(config: Any) -> int:
    """Return how many tokens an encoder takes at most."""
    positions = int(config.max_position_embeddings)
    if ARCHITECTURES[config.model_type].positions_after_padding:
        return positions - int(config.pad_token_id) - 1
    return positions


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' advice and bars off the terminal: what matters is raised or recorded."""
    log: Any = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
