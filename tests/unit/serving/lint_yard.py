"""A small repository that is right in everything, to be spoilt before it is written."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import onnx.parser

from edgeml.serving.repository.config import config_text
from edgeml.serving.repository.contract import encode_contract

FLOAT = """
<ir_version: 10, opset_import: ["": 18]>
plain (float[batch, 3] x, int64[batch, sequence] ids) => (float[batch, 2] y)
<float[3, 2] w = {1, 2, 3, 4, 5, 6}>
{
    product = MatMul(x, w)
    numbers = Cast<to = 1>(ids)
    totals = ReduceMean<keepdims = 1>(numbers)
    y = Add(product, totals)
}
"""
INTEGER = """
<ir_version: 10, opset_import: ["": 18]>
plain (float[batch, 3] x, int64[batch, sequence] ids) => (float[batch, 2] y)
<float[3, 2] w = {1, 2, 3, 4, 5, 6}, float s = {0.1}, uint8 z = {128}>
{
    small = QuantizeLinear(x, s, z)
    large = DequantizeLinear(small, s, z)
    product = MatMul(large, w)
    numbers = Cast<to = 1>(ids)
    totals = ReduceMean<keepdims = 1>(numbers)
    y = Add(product, totals)
}
"""
X = {"name": "x", "data_type": "TYPE_FP32", "dims": [3]}
IDS = {"name": "ids", "data_type": "TYPE_INT64", "dims": [-1]}
Y = {"name": "y", "data_type": "TYPE_FP32", "dims": [2]}


def parse(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(text)


def _warmup() -> dict[str, Any]:
    return {
        "name": "real",
        "batch_size": 1,
        "inputs": {
            "x": {"data_type": "TYPE_FP32", "dims": [3], "input_data_file": "1/x.raw"},
            "ids": {"data_type": "TYPE_INT64", "dims": [4], "input_data_file": "1/ids.raw"},
        },
    }


def _common(name: str, **values: Any) -> dict[str, Any]:
    return {
        "name": name,
        "max_batch_size": 8,
        "version_policy": {"specific": {"versions": [1]}},
        **copy.deepcopy(values),
    }


def _plain(kind: str, file: str) -> dict[str, Any]:
    return _common(
        "plain",
        backend="onnxruntime",
        input=[X, IDS],
        output=[{**Y, "label_filename": "labels.txt"}],
        instance_group=[{"kind": kind, "count": 1}],
        default_model_filename=file,
        dynamic_batching={},
        parameters={"intra_op_thread_count": {"string_value": "1"}},
        model_warmup=[_warmup()],
    )


def _chain() -> dict[str, Any]:
    steps = [
        {
            "model_name": "plain",
            "model_version": 1,
            "input_map": {"x": "x", "ids": "ids"},
            "output_map": {"y": "inner"},
        },
        {
            "model_name": "after",
            "model_version": -1,
            "input_map": {"y": "inner"},
            "output_map": {"z": "z"},
        },
    ]
    return _common(
        "chain",
        platform="ensemble",
        input=[X, IDS],
        output=[{**Y, "name": "z"}],
        ensemble_scheduling={"step": steps},
    )


@dataclass
class Yard:
    """The repository before it is written; whatever is here may be changed."""

    main: dict[str, Any] = field(default_factory=lambda: _plain("KIND_AUTO", "fp32.onnx"))
    cpu: dict[str, Any] = field(default_factory=lambda: _plain("KIND_CPU", "int8.onnx"))
    after: dict[str, Any] = field(
        default_factory=lambda: _common(
            "after",
            backend="python",
            input=[Y],
            output=[{**Y, "name": "z"}],
            instance_group=[{"kind": "KIND_CPU", "count": 1}],
            dynamic_batching={},
        )
    )
    chain: dict[str, Any] = field(default_factory=_chain)
    graphs: dict[str, onnx.ModelProto] = field(
        default_factory=lambda: {
            "fp32.onnx": parse(FLOAT),
            "fp16.onnx": parse(FLOAT),
            "int8.onnx": parse(INTEGER),
        }
    )
    # Path in the repository to contents that replace what would be written; None leaves it out.
    instead: dict[str, bytes | None] = field(default_factory=dict)
    folders: list[str] = field(default_factory=lambda: ["chain/1"])
    contract: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        self.main["cc_model_filenames"] = {"8.0": "fp16.onnx", "9.0": "fp16.onnx"}

    @property
    def step(self) -> list[dict[str, Any]]:
        """The steps of the ensemble."""
        return self.chain["ensemble_scheduling"]["step"]

    @property
    def configs(self) -> list[dict[str, Any]]:
        return [self.main, self.cpu]

    def unbuilt(self) -> None:
        """Leave every version out, as git does."""
        self.folders.clear()
        for path in self._built():
            self.instead.setdefault(path, None)

    def write(self, root: Path) -> Path:
        """Write the repository."""
        built = self._built()
        contract = self.contract or self._contract(built)
        text = encode_contract(contract)
        for values in self.configs:
            values["parameters"].setdefault("edgeml_contract", {"string_value": text})
        files = {
            **built,
            "plain/labels.txt": b"cat\ndog\n",
            "plain/1/contract.json": text.encode(),
            "plain/config.pbtxt": config_text(self.main).encode(),
            "plain/configs/cpu.pbtxt": config_text(self.cpu).encode(),
            "after/config.pbtxt": config_text(self.after).encode(),
            "chain/config.pbtxt": config_text(self.chain).encode(),
            "README.md": b"not a model",
        }
        unbuilt = None in (
            self.instead.get(path, b"") for path in built if path.endswith("32.onnx")
        )
        if unbuilt and not self.folders:
            del files["plain/1/contract.json"]
        files |= self.instead
        for folder in self.folders:
            (root / folder).mkdir(parents=True, exist_ok=True)
        for path, contents in files.items():
            if contents is not None:
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_bytes(contents)
        return root

    def _built(self) -> dict[str, bytes]:
        return {
            **{f"plain/1/{name}": row.SerializeToString() for name, row in self.graphs.items()},
            "plain/warmup/1/x.raw": bytes(12),
            "plain/warmup/1/ids.raw": bytes(32),
            "after/1/model.py": b"",
        }

    def _contract(self, built: dict[str, bytes]) -> dict[str, Any]:
        sides = [{"name": "x", "dtype": "float32", "shape": ["batch", 3]}]
        return {
            "format": 1,
            "bundle": "plain",
            "version": "1",
            "task": "tensor",
            "signature": {"inputs": sides, "outputs": [{**sides[0], "name": "y"}]},
            "preprocessing": {},
            "labels": ["cat", "dog"],
            "variants": {
                name: {
                    "file": f"{name}.onnx",
                    "precision": name,
                    "sha256": hashlib.sha256(built[f"plain/1/{name}.onnx"]).hexdigest(),
                }
                for name in ("fp32", "fp16", "int8")
            },
            "chosen": "int8",
            "cpu": "int8",
        }
