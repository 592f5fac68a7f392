"""Text encoders of a few kilobytes in the hub's layout, with a real tokenizer, and easy texts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from edgeml.core.files import write_json

POSITIONS = 64
GOOD = ("good", "great", "lovely", "superb", "fine", "warm", "bright", "funny")
BAD = ("bad", "awful", "dull", "poor", "weak", "cold", "bleak", "boring")
PLAIN = (
    *("the", "a", "an", "of", "and", "film", "movie", "plot"),
    *("cast", "story", "scene", "is", "was", "it", "this", "that"),
)
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz0123456789.,!?'-")
_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": POSITIONS,
    "initializer_range": 0.2,  # so that a few dozen steps teach it something
}
# Model type to its configuration, its special tokens, and the id of the padding.
KINDS: Mapping[str, dict[str, Any]] = {
    "albert": {**_SIZES, "embedding_size": 16, "pad_token_id": 0},
    "bert": {**_SIZES, "pad_token_id": 0},
    "distilbert": {
        "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64,
        "max_position_embeddings": POSITIONS, "pad_token_id": 0,
    },
    "electra": {**_SIZES, "embedding_size": 16, "pad_token_id": 0},
    "mpnet": {**_SIZES, "max_position_embeddings": POSITIONS + 2, "pad_token_id": 1},
    "roberta": {
        **_SIZES, "max_position_embeddings": POSITIONS + 2, "pad_token_id": 1, "type_vocab_size": 1,
    },
}  # fmt: skip


def vocabulary(*, pad_id: int = 0) -> dict[str, int]:
    """Words to ids: some two hundred of them."""
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    if pad_id == 1:
        special[:2] = ["[CLS]", "[PAD]"]
    pieces = [f"##{letter}" for letter in LETTERS]
    words = [*special, *LETTERS, *pieces, *GOOD, *BAD, *PLAIN]
    return {word: index for index, word in enumerate(dict.fromkeys(words))}


def make_tokenizer(*, pad_id: int = 0) -> Tokenizer:
    """A WordPiece tokenizer of lower-case words."""
    words = vocabulary(pad_id=pad_id)
    tokenizer = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = [("[CLS]", words["[CLS]"]), ("[SEP]", words["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=special
    )
    tokenizer.add_special_tokens(["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"])
    return tokenizer


def make_encoder(folder: Path, *, kind: str = "bert", seed: int = 0, **options: Any) -> Path:
    """Write a random encoder in the hub's layout.

    Args:
        folder: Where; made if it is not there.
        kind: One of ``KINDS``.
        seed: Seed of its weights.
        **options: Changes to its configuration.
    """
    values = {**KINDS[kind], **options}
    tokenizer = make_tokenizer(pad_id=KINDS[kind]["pad_token_id"])
    config = transformers.AutoConfig.for_model(
        kind, vocab_size=tokenizer.get_vocab_size(), **values
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = transformers.AutoModel.from_config(config)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]",
               "unk_token": "[UNK]", "mask_token": "[MASK]"}  # fmt: skip
    write_json(folder / "special_tokens_map.json", special)
    return folder


def make_texts(count: int, *, seed: int = 0) -> tuple[list[str], list[str]]:
    """Distinct texts and their labels, ``good`` and ``bad`` by turns; one word tells them apart."""
    rng = np.random.default_rng(seed)
    texts, labels = [], []
    for index in range(count):
        words = list(rng.choice(PLAIN, size=int(rng.integers(2, 14))))
        words.insert(int(rng.integers(len(words))), str(rng.choice((BAD, GOOD)[index % 2])))
        texts.append(f"{' '.join(words)} {index}")
        labels.append(("bad", "good")[index % 2])
    return texts, labels


def make_table(file: Path, count: int, *, seed: int = 0) -> Path:
    """Write such texts as a CSV with the columns ``text`` and ``label``."""
    rows = [f"{text},{label}" for text, label in zip(*make_texts(count, seed=seed), strict=True)]
    file.write_text("\n".join(["text,label", *rows, ""]), encoding="utf-8")
    return file
