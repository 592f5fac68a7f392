"""The backend's own decisions, with a stand-in for Triton; the real Triton has its tests too."""

from __future__ import annotations

import gc
import importlib.machinery
import importlib.util
import json
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeml.serving.installation.finding import BACKEND, STUB_MODULE
from edgeml.serving.repository.config import CPU_CONFIG, parse_config
from edgeml.serving.repository.publish import publish_bundle
from tests.unit.serving.tiny_bundle import make_lookup_bundle, run_file


class TritonModelException(Exception):  # noqa: N818  Triton's name
    pass


@dataclass
class TritonError:
    message: str
    code: int
    INVALID_ARG = 3


@dataclass
class Tensor:
    label: str
    array: Any

    def name(self) -> str:
        return self.label

    def as_numpy(self) -> Any:
        return self.array

    def to_dlpack(self) -> Any:
        return self.array

    @staticmethod
    def from_dlpack(name: str, capsule: Any) -> Tensor:
        return Tensor(name, capsule)


class RepeatingTensor(Tensor):
    """What the stub makes of an array of NumPy 2: every element is the first one."""

    @staticmethod
    def from_dlpack(name: str, capsule: Any) -> Tensor:
        return Tensor(name, np.full_like(capsule, capsule.flat[0]))


@dataclass
class InferenceResponse:
    output_tensors: list[Tensor] = field(default_factory=list)
    error: TritonError | None = None


@dataclass
class Request:
    tensors: dict[str, Any]

    def inputs(self) -> list[Tensor]:
        return [Tensor(name, array) for name, array in self.tensors.items()]


class Logger:
    @staticmethod
    def log_info(text: str) -> None: ...

    @staticmethod
    def log_warn(text: str) -> None: ...


def load_model_file(monkeypatch, path: Path, **changes):
    """Import a model's file with stand-ins, as Triton's stub would."""
    triton = types.ModuleType("triton_python_backend_utils")
    triton.__spec__ = importlib.machinery.ModuleSpec(triton.__name__, None)
    parts = {
        "TritonModelException": TritonModelException,
        "TritonError": TritonError,
        "Tensor": Tensor,
        "InferenceResponse": InferenceResponse,
        "Logger": Logger,
        "triton_string_to_numpy": lambda _: np.uint8,
        "numpy_to_triton_type": lambda dtype: {"float32": 11, "object": 13}.get(dtype.name, 0),
        "get_input_tensor_by_name": lambda request, name: Tensor(name, request.tensors[name]),
    }
    for name, value in {**parts, **changes}.items():
        setattr(triton, name, value)
    monkeypatch.setitem(sys.modules, triton.__name__, triton)
    # The path is put back afterwards, and modules that know the stand-ins are forgotten.
    for folder in (STUB_MODULE.parent, path.parent):
        monkeypatch.syspath_prepend(str(folder))
    for name in ("edgeml_session", "edgeml_declared"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    spec = importlib.util.spec_from_file_location("edgeml_test_backend", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_backend(monkeypatch, **changes):
    monkeypatch.setattr(gc, "freeze", lambda: None)  # a stub's whole process is a model's
    return load_model_file(monkeypatch, BACKEND / "onnxruntime/model.py", **changes)


@pytest.fixture
def backend(monkeypatch):
    module = load_backend(monkeypatch)
    monkeypatch.setattr(module.np, "__version__", "1.26.4")
    return module


@pytest.fixture
def published(tiny, repository):
    return publish_bundle(tiny, repository).path


def arguments(folder: Path, *, kind: str = "CPU", relative: str = CPU_CONFIG) -> dict[str, str]:
    config = parse_config((folder / relative).read_text(encoding="utf-8"))
    return {
        "model_config": json.dumps(config),
        "model_instance_kind": kind,
        "model_repository": str(folder),
        "model_version": "1",
    }


def started(backend, folder: Path, **options):
    model = backend.TritonPythonModel()
    model.initialize(arguments(folder, **options))
    return model


def test_it_serves_the_file_that_the_configuration_names(backend, published, tiny):
    images = tiny.golden().tensors["image"]
    for relative, variant in ((CPU_CONFIG, "int8"), ("config.pbtxt", "fp32")):
        model = started(backend, published, relative=relative)
        (response,) = model.execute([Request({"image": images})])
        expected = run_file(published / f"1/{variant}.onnx", images)
        np.testing.assert_array_equal(response.output_tensors[0].array, expected)


def test_a_gpu_instance_is_refused(backend, published):
    with pytest.raises(TritonModelException, match=r"placed on GPU; .* has only the CPU"):
        started(backend, published, kind="GPU")


def test_a_flipped_byte_is_refused(backend, published):
    path = published / "1/int8.onnx"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(TritonModelException, match=r"'int8\.onnx' has the sha256"):
        started(backend, published)


def test_a_missing_file_is_refused(backend, published):
    (published / "1/int8.onnx").unlink()
    with pytest.raises(TritonModelException, match="cannot be read"):
        started(backend, published)


def test_a_graph_that_is_not_the_declared_one_is_refused(backend, published):
    given = arguments(published)
    given["model_config"] = given["model_config"].replace('"name": "image"', '"name": "picture"')
    with pytest.raises(TritonModelException, match=r"has the inputs \['image'\]"):
        backend.TritonPythonModel().initialize(given)


@pytest.mark.parametrize("version", ["2.0.0", "2.4.6", "3.1.0"])
def test_numpy_2_is_refused(monkeypatch, backend, published, version):
    monkeypatch.setattr(backend.np, "__version__", version)
    with pytest.raises(TritonModelException, match=f"NumPy {version}"):
        started(backend, published)


def test_wrong_values_are_noticed_whatever_the_version_says(monkeypatch, published):
    backend = load_backend(monkeypatch, Tensor=RepeatingTensor)
    monkeypatch.setattr(backend.np, "__version__", "1.26.4")
    with pytest.raises(TritonModelException, match="arrive with wrong values"):
        started(backend, published)


def test_requests_are_joined_and_answered_in_their_order(monkeypatch, backend, published, rng):
    model = started(backend, published)
    batches = [rng.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8) for n in (1, 3, 2)]
    runs = []
    session = model._session

    class Counting:
        def run(self, outputs, feed, options):
            runs.append(len(feed["image"]))
            return session.run(outputs, feed, options)

    monkeypatch.setattr(model, "_session", Counting())
    responses = model.execute([Request({"image": images}) for images in batches])
    assert runs == [6]
    for images, response in zip(batches, responses, strict=True):
        expected = run_file(published / "1/int8.onnx", images)
        np.testing.assert_allclose(response.output_tensors[0].array, expected, atol=1e-6)


def test_a_bad_request_gets_its_error_and_harms_no_neighbour(backend, tmp_path, repository):
    bundle = make_lookup_bundle(tmp_path / "lookup.bundle")
    model = started(backend, publish_bundle(bundle, repository).path)
    feeds = [(1, 0.5), (9, 0.0), (2, np.nan), (3, 1.0)]
    requests = [
        Request({"ids": np.int64([[row]]), "bias": np.full((1, 3), bias, dtype=np.float32)})
        for row, bias in feeds
    ]
    first, unknown, nan, last = model.execute(requests)
    assert "indices element out of data bounds" in unknown.error.message
    assert "'bias' holds NaN" in nan.error.message
    assert unknown.error.code == nan.error.code == TritonError.INVALID_ARG
    np.testing.assert_array_equal(first.output_tensors[0].array, [[3.5, 4.5, 5.5]])
    np.testing.assert_array_equal(last.output_tensors[0].array, [[10.0, 11.0, 12.0]])
    np.testing.assert_array_equal(last.output_tensors[1].array, [33.0])
