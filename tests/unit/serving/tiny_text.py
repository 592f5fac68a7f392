"""A tiny text classifier with a real tokenizer, and texts of every kind for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime
from onnx import numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from edgeml.core.bundle import Bundle, Golden, staged_folder, write_bundle, write_golden
from edgeml.core.files import sha256_of
from edgeml.core.manifest import Manifest, Variant
from edgeml.tasks.classification import ClassLabels
from edgeml.tasks.text import TOKENIZER, TextPreprocessing, TextTask, fix_tokenizer

LABELS = ("negative", "neutral 中", "positive")
MAX_LENGTH = 40
WORDS = (
    *("good", "great", "lovely", "fine", "bad", "awful", "dull", "poor", "film", "plot", "the"),
    *("a", "of", "and", "is", "was", "it", "this", "not", "very", "中", "文", "é", "ß", "😀"),
)
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'-"
GOLDEN_TEXTS = ("a good film", "", "this was not very good " * 20, "Größe 中文 😀")

# Each token adds its row of the table; a graph of its own for every set of inputs.
GRAPH = """
<ir_version: 10, opset_import: ["": 18]>
tiny ({inputs}) => (float[batch, {classes}] probabilities)
<int64[1] last = {{-1}}, int64[1] middle = {{1}}>
{{
    rows = Gather<axis = 0>(table, input_ids)
    {types}
    mask = Cast<to = 1>(attention_mask)
    column = Unsqueeze(mask, last)
    masked = Mul(typed, column)
    sums = ReduceSum<keepdims = 0>(masked, middle)
    counts = ReduceSum<keepdims = 1>(mask, middle)
    logits = Div(sums, counts)
    probabilities = {end}(logits)
}}
"""
WITH_TYPES = "kinds = Gather<axis = 0>(type_table, token_type_ids)\n    typed = Add(rows, kinds)"


def make_tokenizer() -> bytes:
    """A lower-casing WordPiece tokenizer of some hundred tokens, cut at ``MAX_LENGTH``."""
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    names = [*special, *LETTERS, *(f"##{letter}" for letter in LETTERS), *WORDS]
    words = {name: index for index, name in enumerate(dict.fromkeys(names))}
    tokenizer = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.add_special_tokens(special)
    return fix_tokenizer(tokenizer.to_str().encode(), max_length=MAX_LENGTH, pad_id=0)


def text_model(table: Any, *, inputs: tuple[str, ...], multi_label: bool) -> bytes:
    """Return an ONNX file: the mean of the tokens' rows, softmax or sigmoid."""
    typed = "token_type_ids" in inputs
    text = GRAPH.format(
        inputs=", ".join(f"int64[batch, sequence] {name}" for name in inputs),
        classes=table.shape[1],
        types=WITH_TYPES if typed else "typed = Identity(rows)",
        end="Sigmoid" if multi_label else "Softmax<axis = 1>",
    )
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(numpy_helper.from_array(table, "table"))
    if typed:
        model.graph.initializer.append(numpy_helper.from_array(table[:2] * 0.5, "type_table"))
    onnx.checker.check_model(model)
    return model.SerializeToString()


def make_text_bundle(
    place: Path,
    *,
    name: str = "sentiment",
    chosen: str = "fp32",
    batch_safe: bool = True,
    multi_label: bool = False,
    inputs: tuple[str, ...] = ("input_ids", "attention_mask"),
    seed: int = 0,
) -> Bundle:
    """Write a bundle of the tiny model, with the variants fp32, fp16 and int8."""
    tokenizer = make_tokenizer()
    labels = ClassLabels(names=LABELS, multi_label=multi_label)
    size = Tokenizer.from_buffer(tokenizer).get_vocab_size()
    table = np.random.default_rng(seed).normal(0, 4, (size, len(LABELS))).astype(np.float32)
    rounded = {"fp32": table, "fp16": table.astype(np.float16), "int8": np.round(table * 2) / 2}
    with staged_folder(place) as folder:
        (folder / TOKENIZER).write_bytes(tokenizer)
        preprocessing = TextPreprocessing(
            max_length=MAX_LENGTH,
            inputs=inputs,
            pad_id=0,
            tokenizer_sha256=sha256_of(folder / TOKENIZER),
        )
        task = TextTask(preprocessing, labels, tokenizer)
        tensors = task.collate([task.prepare(text) for text in GOLDEN_TEXTS])
        rows, outputs = [], {}
        for variant, weights in rounded.items():
            file = f"variants/{variant}/model.onnx"
            path = folder / file
            path.parent.mkdir(parents=True)
            path.write_bytes(
                text_model(weights.astype(np.float32), inputs=inputs, multi_label=multi_label)
            )
            rows.append(
                Variant(
                    name=variant,
                    file=file,
                    precision=variant,
                    size_bytes=path.stat().st_size,
                    sha256=sha256_of(path),
                    opset=18,
                    verdict="chosen" if variant == chosen else "passed",
                    batch_safe=batch_safe or variant != chosen,
                )
            )
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            outputs[variant] = {"probabilities": session.run(None, dict(tensors))[0]}
        (folder / "golden/inputs").mkdir(parents=True)
        paths = tuple(f"golden/inputs/{index}.txt" for index in range(len(GOLDEN_TEXTS)))
        for path, text in zip(paths, GOLDEN_TEXTS, strict=True):
            (folder / path).write_bytes(text.encode())
        tolerance = dict.fromkeys(rounded, 1e-5)
        write_golden(
            folder, Golden(inputs=paths, tensors=tensors, outputs=outputs, tolerance=tolerance)
        )
        manifest = Manifest(
            name=name,
            version="1",
            task="text-classification",
            signature=task.signature,
            preprocessing=preprocessing.to_json(),
            labels=LABELS,
            multi_label=multi_label,
            variants=tuple(rows),
            chosen=chosen,
            chosen_for_batches=chosen if batch_safe else "fp32",
            chosen_by_device={"cpu": chosen, "gpu": "fp16"},
            files={row.file: row.sha256 for row in rows},
            provenance={"model": "tiny"},
        )
        write_bundle(folder, manifest, place=place)
    return Bundle.read(place)


def make_texts(count: int = 200) -> list[str]:
    """Texts of every kind: short, empty, too long, of several scripts, with odd characters."""
    odd = [
        *(
            "",
            " ",
            "\n\t\r",
            "\0",
            "a\0b",
            "😀",
            "👩‍👩‍👧",
            "e\u0301",
            "Größe",
            "中文 字",
            "שלום",
            "مرحبا",
        ),
        *(
            "ﬁne",
            "\u200bgood\u200b",
            "\ufeffgood",
            "\uff27\uff2f\uff2f\uff24",
            "İstanbul",
            "good" * 200,
            "\U0010ffff",
        ),
        *("the film was good " * 60, "a " * 5000, "x" * 100_000, "." * 39, "good,bad;[CLS][SEP]"),
    ]
    rng = np.random.default_rng(7)
    plain = [
        " ".join(rng.choice(WORDS, size=int(rng.integers(1, 60)))) for _ in range(count - len(odd))
    ]
    return [*odd, *plain]
