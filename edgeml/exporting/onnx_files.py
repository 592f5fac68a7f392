"""An ONNX file from anywhere, read whole: its external data beside it, and nothing outside.

The file is untrusted. Its external data may name any path: only files below its own folder are
opened, and every size is checked before anything is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper

from edgeml.core.files import inside
from edgeml.errors import InputError, IntegrityError
from edgeml.exporting.assembling import IR_VERSION

MAX_BYTES = (1 << 31) - 1
OPSETS = range(11, 23)
DEFAULT_DOMAINS = ("", "ai.onnx")
# What a graph without any standard operator is given, so that there is one to speak of.
_ADDED_OPSET = 18


def read_onnx(path: Path) -> onnx.ModelProto:
    """Read a model, its external data and all.

    Returns:
        One file's worth of model: no external data, no local functions, no initializer among the
        inputs, an intermediate representation that older readers know.

    Raises:
        InputError: It is not an ONNX model, damaged, over 2 GB, of an operator set outside 11 to
            22, or its external data is missing or lies outside its folder.
    """
    contents = _contents(path)
    try:
        model = onnx.ModelProto.FromString(contents)
    except DecodeError as exc:
        raise _not_onnx(path, "it cannot be parsed") from exc
    del contents
    if not model.ir_version or not model.graph.output:
        raise _not_onnx(path, "it has no graph")
    _check_opset(model, path)
    _embed_external_data(model, path)
    return _plain(model)


def _contents(path: Path) -> bytes:
    try:
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist or is not a regular file"
            raise InputError(f"this path {what}; an ONNX file was expected", item=str(path))
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise _too_large(path, size)
        contents = path.read_bytes()
    except OSError as exc:
        raise InputError(
            f"the file cannot be read ({exc}); a readable ONNX file was expected", item=str(path)
        ) from exc
    if not contents:
        raise _not_onnx(path, "it is empty (0 bytes)")
    if contents[4:8] == b"ORTM":
        raise InputError(
            "this file is in ONNX Runtime's own format, which is bound to one version and cannot "
            "be changed; the ONNX file that it was made from was expected",
            item=str(path),
        )
    return contents


def _not_onnx(path: Path, what: str) -> InputError:
    return InputError(
        f"this is not an ONNX model, or a damaged one: {what}; a complete .onnx file was "
        "expected; export or download it again",
        item=str(path),
    )


def _too_large(path: Path, size: int) -> InputError:
    return InputError(
        f"the model has {size / 1e9:.1f} GB with its external data; at most 2 GB was expected, "
        "which is what one ONNX file can hold; use a smaller model",
        item=str(path),
        limit="max_bytes",
        got=size,
    )


def _check_opset(model: onnx.ModelProto, path: Path) -> None:
    versions = [row.version for row in model.opset_import if row.domain in DEFAULT_DOMAINS]
    if not versions:
        model.opset_import.append(helper.make_opsetid("", _ADDED_OPSET))
        return
    if versions[0] not in OPSETS:
        raise InputError(
            f"the model is of opset {versions[0]}; {OPSETS.start} to {OPSETS[-1]} was expected; "
            "export it again with opset 18",
            item=str(path),
            got=versions[0],
        )


def tensors_of(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor that a graph holds, those of its subgraphs included."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for row in node.attribute:
            if row.HasField("t"):
                yield row.t
            yield from row.tensors
            if row.HasField("g"):
                yield from tensors_of(row.g)
            for inner in row.graphs:
                yield from tensors_of(inner)


def _embed_external_data(model: onnx.ModelProto, path: Path) -> None:
    """Read what lies beside the file into it, after all of it was found and measured."""
    tensors = [*tensors_of(model.graph)]
    for function in model.functions:
        tensors.extend(_tensors_of_nodes(function.node))
    rows = [
        (tensor, *_place(tensor, path))
        for tensor in tensors
        if tensor.data_location == TensorProto.EXTERNAL
    ]
    total = model.ByteSize() + sum(length for *_, length in rows)
    if total > MAX_BYTES:
        raise _too_large(path, total)
    for tensor, file, offset, length in rows:
        with file.open("rb") as opened:
            opened.seek(offset)
            tensor.raw_data = opened.read(length)
        del tensor.external_data[:]
        tensor.data_location = TensorProto.DEFAULT


def _place(tensor: onnx.TensorProto, path: Path) -> tuple[Path, int, int]:
    """Return the file, the offset and the length of a tensor's data."""
    described = {row.key: row.value for row in tensor.external_data}
    location = described.get("location", "")
    try:
        file = inside(path.parent, location)
    except IntegrityError as exc:
        raise InputError(
            f"the external data of '{tensor.name}' is said to be at {location!r}, outside the "
            "model's folder; a plain file beside the model was expected; put it there and export "
            "the model again",
            item=str(path),
        ) from exc
    if not file.is_file():
        raise InputError(
            f"the external data file '{location}' is missing; it was expected beside the model; "
            "copy both together",
            item=str(path),
        )
    size = file.stat().st_size
    try:
        offset = int(described.get("offset", 0))
        length = int(described.get("length", size - offset))
    except ValueError as exc:
        raise _not_onnx(path, f"the place of '{tensor.name}' in '{location}' is no number") from exc
    if offset < 0 or length < 0 or offset + length > size:
        raise InputError(
            f"the external data file '{location}' has {size} bytes and '{tensor.name}' needs "
            f"{offset + length}; a complete file was expected; copy it again",
            item=str(path),
        )
    return file, offset, length


def _plain(model: onnx.ModelProto) -> onnx.ModelProto:
    """Inline local functions, keep initializers out of the inputs, state a known representation."""
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    graph = model.graph
    constants = {row.name for row in graph.initializer}
    constants |= {row.values.name for row in graph.sparse_initializer}
    kept = [row for row in graph.input if row.name not in constants]
    if len(kept) < len(graph.input):
        del graph.input[:]
        graph.input.extend(kept)
    least = helper.find_min_ir_version_for(model.opset_import, ignore_unknown=True)
    # Above the cap lie only types that the runtimes of 2024 do not read either: ORT decides.
    model.ir_version = max(least, min(model.ir_version, IR_VERSION))
    return model
