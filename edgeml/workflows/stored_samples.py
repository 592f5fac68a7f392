"""Prepared samples on disk, so that a child process works on the very same tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeml.core.files import write_json
from edgeml.tasks.classification import ClassLabels
from edgeml.tasks.samples import ArraySamples, Samples, TensorSamples, TextSamples
from edgeml.tasks.text import EncodedText, TextPreprocessing, TextTask

_INDEX = "samples.json"


def store_samples(folder: Path, samples: Samples) -> None:
    """Write samples into a folder of their own."""
    folder.mkdir(parents=True)
    if isinstance(samples, ArraySamples):
        np.save(folder / "0.npy", np.ascontiguousarray(samples.array))
        index: dict[str, Any] = {"kind": "array", "names": [samples.name]}
    elif isinstance(samples, TensorSamples):
        _store_tensors(folder, samples)
        names = list(samples.inputs)
        index = {"kind": "tensors", "names": names, "max_batch": samples.max_batch}
    elif isinstance(samples, TextSamples):
        lengths = [len(text.ids) for text in samples.texts]
        np.save(folder / "lengths.npy", np.array(lengths, dtype=np.int64))
        np.save(folder / "ids.npy", np.concatenate([text.ids for text in samples.texts]))
        np.save(folder / "truncated.npy", np.array([text.truncated for text in samples.texts]))
        (folder / "tokenizer.json").write_bytes(samples.task.tokenizer_file)
        index = {
            "kind": "text",
            "preprocessing": samples.task.preprocessing.to_json(),
            "labels": list(samples.task.labels.names),
            "multi_label": samples.task.labels.multi_label,
            "padded_to": samples.padded_to,
        }
    else:
        raise TypeError(f"samples of the type {type(samples).__name__} cannot be stored")
    write_json(folder / _INDEX, index)


def read_samples(folder: Path) -> Samples:
    """Read what :func:`store_samples` wrote; arrays are mapped, not loaded."""
    index: Mapping[str, Any] = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
    if index["kind"] == "text":
        return _read_texts(folder, index)
    arrays = {
        name: np.load(folder / f"{number}.npy", mmap_mode="r", allow_pickle=False)
        for number, name in enumerate(index["names"])
    }
    if index["kind"] == "array":
        (name,) = arrays
        return ArraySamples(name, np.asarray(arrays[name]))
    plain = {name: np.asarray(array) for name, array in arrays.items()}
    return TensorSamples(plain, max_batch=index["max_batch"])


def fully_padded(samples: Samples) -> Samples | None:
    """Return the same samples with as much padding as their contract allows, or None."""
    if isinstance(samples, TextSamples):
        return samples.padded(samples.task.preprocessing.max_length)
    return None


def _store_tensors(folder: Path, samples: TensorSamples) -> None:
    """Write each input's rows, a feed at a time: they may be most of a large file."""
    if any(not array.size for array in samples.inputs.values()):  # nothing to map
        for number, array in enumerate(samples.inputs.values()):
            np.save(folder / f"{number}.npy", array[samples.rows])
        return
    stored = {
        name: np.lib.format.open_memmap(
            folder / f"{number}.npy",
            mode="w+",
            dtype=array.dtype,
            shape=(len(samples), *array.shape[1:]),
        )
        for number, (name, array) in enumerate(samples.inputs.items())
    }
    for group in samples.groups():
        for name, rows in samples.feed(group).items():
            stored[name][group] = rows
    for target in stored.values():
        target.flush()


def _read_texts(folder: Path, index: Mapping[str, Any]) -> TextSamples:
    lengths = np.load(folder / "lengths.npy", allow_pickle=False)
    truncated = np.load(folder / "truncated.npy", allow_pickle=False)
    rows = np.split(np.load(folder / "ids.npy", allow_pickle=False), np.cumsum(lengths)[:-1])
    task = TextTask(
        TextPreprocessing.from_json(index["preprocessing"]),
        ClassLabels(names=tuple(index["labels"]), multi_label=index["multi_label"]),
        (folder / "tokenizer.json").read_bytes(),
    )
    texts = [
        EncodedText(ids=ids, truncated=bool(cut)) for ids, cut in zip(rows, truncated, strict=True)
    ]
    return TextSamples(task, texts, padded_to=index["padded_to"])
