"""Rules about warm-up: a model whose warm-up fails is never ready."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from tritonclient.grpc import model_config_pb2

from edgeml.core.dtypes import DTYPES
from edgeml.serving.lint.findings import Fault, Rule
from edgeml.serving.lint.subjects import ConfigFile
from edgeml.serving.repository.samples import WARMUP

_BYTES = {row.triton: np.dtype(row.numpy).itemsize for row in DTYPES}
_INTEGERS = {row.triton for row in DTYPES if np.dtype(row.numpy).kind in "iu"} | {"TYPE_STRING"}


def _random_integers(config: ConfigFile) -> Iterator[Fault]:
    for number, key, tensor in _tensors(config):
        if tensor.random_data and _dtype(tensor) in _INTEGERS:
            yield Fault(
                message=f"random_data for '{key}' of {_dtype(tensor)} is random bytes: ids outside "
                "any vocabulary, and the model never becomes ready; input_data_file with a real "
                "sample was expected; publish with warm-up",
                line=_line(config, number, key),
            )


def _random_numbers(config: ConfigFile) -> Iterator[Fault]:
    for number, key, tensor in _tensors(config):
        if tensor.random_data and _dtype(tensor) not in _INTEGERS:
            yield Fault(
                message=f"random_data for '{key}' of {_dtype(tensor)} is random bytes: values as "
                "large as 1e34; input_data_file with a real sample was expected; publish with "
                "warm-up",
                line=_line(config, number, key),
            )


def _dims(config: ConfigFile) -> Iterator[Fault]:
    for number, key, tensor in _tensors(config):
        if not tensor.dims or min(tensor.dims) < 1:
            yield Fault(
                message=f"the warm-up of '{key}' has dims {list(tensor.dims)}; sizes from 1 were "
                "expected; write the real ones",
                line=_line(config, number, key),
            )


def _missing_file(config: ConfigFile) -> Iterator[Fault]:
    # Samples are built with their version: where none is built there is nothing to miss.
    for number, key, tensor in _tensors(config) if config.present else ():
        file = tensor.input_data_file
        if file and not (config.folder / WARMUP / file).is_file():
            yield Fault(
                message=f"the warm-up of '{key}' reads '{WARMUP}/{file}', which is not there; "
                "publish the bundle again",
                line=_line(config, number, key),
            )


def _file_size(config: ConfigFile) -> Iterator[Fault]:
    for number, key, tensor in _tensors(config):
        path = config.folder / WARMUP / tensor.input_data_file
        each = _BYTES.get(_dtype(tensor))
        if not tensor.input_data_file or not path.is_file() or each is None:
            continue
        expected, got = each * math.prod(tensor.dims), path.stat().st_size
        if got != expected and min(tensor.dims, default=0) > 0:
            yield Fault(
                message=f"'{WARMUP}/{tensor.input_data_file}' has {got} bytes; {expected} were "
                f"expected for {_dtype(tensor)} {list(tensor.dims)}; publish the bundle again",
                line=_line(config, number, key),
            )


def _on_ensemble(config: ConfigFile) -> Iterator[Fault]:
    if config.is_ensemble and config.message.model_warmup:
        yield Fault(
            message="an ensemble has a warm-up, which a server refuses; none was expected; warm "
            "up its models instead",
            line=config.line("model_warmup"),
        )


def _other_tensors(config: ConfigFile) -> Iterator[Fault]:
    inputs = {row.name: row for row in config.message.input}
    needed = {name for name, row in inputs.items() if not row.optional}
    for number, sample in enumerate(config.message.model_warmup if inputs else ()):
        wrong = [
            key
            for key, tensor in sorted(sample.inputs.items())
            if key not in inputs or inputs[key].data_type != tensor.data_type
        ]
        wrong += sorted(needed.difference(sample.inputs))
        if wrong:
            yield Fault(
                message=f"the warm-up '{sample.name}' does not fit the inputs: {', '.join(wrong)}; "
                "each input with its type was expected; publish the bundle again",
                line=config.line("model_warmup", number),
            )


def _large_batch(config: ConfigFile) -> Iterator[Fault]:
    most = config.message.max_batch_size
    for number, sample in enumerate(config.message.model_warmup):
        if sample.batch_size > max(most, 1):
            yield Fault(
                message=f"the warm-up '{sample.name}' has batch_size {sample.batch_size}; at most "
                f"max_batch_size, {most}, was expected; lower it",
                line=config.line("model_warmup", number, "batch_size"),
            )


def _tensors(config: ConfigFile) -> Iterator[tuple[int, str, Any]]:
    for number, sample in enumerate(config.message.model_warmup):
        for key, tensor in sorted(sample.inputs.items()):
            yield number, key, tensor


def _line(config: ConfigFile, number: int, key: str) -> int | None:
    return config.fields.line_of_key("inputs", key, "model_warmup", number)


def _dtype(tensor: Any) -> str:
    return str(model_config_pb2.DataType.Name(tensor.data_type))


CONFIG_RULES: tuple[Rule[ConfigFile], ...] = (
    Rule(name="warmup-random-integers", level="error", check=_random_integers),
    Rule(name="warmup-random-numbers", level="warning", check=_random_numbers),
    Rule(name="warmup-dims", level="error", check=_dims),
    Rule(name="warmup-file-missing", level="error", check=_missing_file),
    Rule(name="warmup-file-size", level="error", check=_file_size),
    Rule(name="warmup-on-ensemble", level="error", check=_on_ensemble),
    Rule(name="warmup-tensors", level="error", check=_other_tensors),
    Rule(name="warmup-batch-size", level="error", check=_large_batch),
)
