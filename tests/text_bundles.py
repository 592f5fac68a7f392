"""Text classifiers of a kilobyte, written as ONNX text, with a tokenizer of a few words."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

from edgeml.core.bundle import Bundle, Golden, staged_folder, write_bundle, write_golden
from edgeml.core.files import sha256_of
from edgeml.core.manifest import Manifest, Variant
from edgeml.runtime.engine import OnnxEngine
from edgeml.tasks.classification import ClassLabels
from edgeml.tasks.text import (
    ATTENTION_MASK,
    INPUT_IDS,
    TOKENIZER,
    TextPreprocessing,
    TextTask,
    fix_tokenizer,
)

TEXT_LABELS = ("bad", "good")
MAX_LENGTH = 8
_WORDS = ("[PAD]", "[UNK]", "bad", "good", "film", "the")
# What a word says for each label.
_MEANINGS = ((0, 0), (0.1, 0), (2, -1), (-1, 2), (0, 0.2), (0.1, 0.1))
_GRAPH = """
<ir_version: 10, opset_import: ["": 18]>
words (int64[batch, sequence] input_ids, int64[batch, sequence] attention_mask)
    => (float[batch, 2] probabilities)
<int64[1] last = {{2}}, int64[1] middle = {{1}}>
{{
    meanings = Gather<axis = 0>(table, input_ids)
    mask = Cast<to = 1>(attention_mask)
    wide = Unsqueeze(mask, last)
    kept = Mul(meanings, wide)
    logits = ReduceSum<keepdims = 0>(kept, middle)
    probabilities = {end}(logits)
}}
"""


def make_text_task(*, multi_label: bool = False) -> TextTask:
    """Return the task of such a bundle."""
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(_WORDS)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    contents = fix_tokenizer(tokenizer.to_str().encode(), max_length=MAX_LENGTH, pad_id=0)
    contract = TextPreprocessing(
        max_length=MAX_LENGTH,
        inputs=(INPUT_IDS, ATTENTION_MASK),
        pad_id=0,
        tokenizer_sha256=hashlib.sha256(contents).hexdigest(),
    )
    return TextTask(contract, ClassLabels(names=TEXT_LABELS, multi_label=multi_label), contents)


def make_text_bundle(place: Path, *, multi_label: bool = False) -> Bundle:
    """Write a bundle that knows the words ``good`` and ``bad``."""
    task = make_text_task(multi_label=multi_label)
    model = onnx.parser.parse_model(
        _GRAPH.format(end="Sigmoid" if multi_label else "Softmax<axis = 1>")
    )
    table = numpy_helper.from_array(np.array(_MEANINGS, dtype=np.float32), "table")
    model.graph.initializer.append(table)
    onnx.checker.check_model(model)
    with staged_folder(place) as folder:
        (folder / TOKENIZER).write_bytes(task.tokenizer_file)
        path = folder / "variants/fp32/model.onnx"
        path.parent.mkdir(parents=True)
        onnx.save(model, path)
        texts = ("the good film", "bad")
        tensors = task.collate([task.prepare(text) for text in texts])
        engine = OnnxEngine(path)
        outputs = {"fp32": engine.run(tensors)}
        engine.close()
        golden = Golden(inputs=(), tensors=tensors, outputs=outputs, tolerance={"fp32": 1e-5})
        write_golden(folder, golden)
        row = Variant(
            name="fp32",
            file="variants/fp32/model.onnx",
            precision="fp32",
            size_bytes=path.stat().st_size,
            sha256=sha256_of(path),
            opset=18,
        )
        manifest = Manifest(
            name="words",
            version="1",
            task="text-classification",
            signature=task.signature,
            preprocessing=task.preprocessing.to_json(),
            labels=TEXT_LABELS,
            multi_label=multi_label,
            variants=(row,),
            chosen="fp32",
            chosen_by_device={"cpu": "fp32"},
            files={row.file: row.sha256},
            provenance={},
        )
        write_bundle(folder, manifest, place=place)
    return Bundle.read(place)
