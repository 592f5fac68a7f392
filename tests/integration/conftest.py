"""The real Triton: installed once into the user's own place, started where a test asks."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeml.core.bundle import Bundle
from edgeml.serving.client.engine import TritonEngine
from edgeml.serving.installation.finding import Installation
from edgeml.serving.installation.installing import install
from edgeml.serving.repository.options import ServingOptions
from edgeml.serving.repository.publish import publish_bundle
from edgeml.serving.server.serve import TritonServer, start_triton
from tests.unit.serving.tiny_bundle import make_lookup_bundle, make_tiny_bundle


@pytest.fixture(scope="session", autouse=True)
def logs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the servers' logs with the tests' other files."""
    before = tempfile.tempdir
    tempfile.tempdir = str(tmp_path_factory.mktemp("logs"))
    yield
    tempfile.tempdir = before


@pytest.fixture(scope="session")
def triton() -> Installation:
    """Our own installation; it takes a moment the first time and none after that."""
    return install()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny.bundle")


@pytest.fixture(scope="session")
def lookup(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_lookup_bundle(tmp_path_factory.mktemp("bundles") / "lookup.bundle")


@pytest.fixture(scope="module")
def repository(tiny: Bundle, lookup: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good models, and one of each kind that cannot be served here."""
    root = tmp_path_factory.mktemp("models")
    publish_bundle(tiny, root)
    publish_bundle(
        tiny, root, name="everywhere", policy="forbidden", options=ServingOptions(num_threads=2)
    )
    publish_bundle(lookup, root)
    publish_bundle(tiny, root, name="needs_gpu", policy="required")
    publish_bundle(tiny, root, name="review", config_only=True)
    flipped = publish_bundle(tiny, root, name="flipped").path / "1/int8.onnx"
    data = bytearray(flipped.read_bytes())
    data[len(data) // 2] ^= 1
    flipped.write_bytes(data)
    return root


@pytest.fixture(scope="module")
def server(triton: Installation, repository: Path) -> Iterator[TritonServer]:
    """A server that no test harms."""
    with start_triton(repository, installation=triton) as running:
        yield running


@pytest.fixture
def engine(server: TritonServer) -> Iterator[TritonEngine]:
    running = TritonEngine(server.grpc, model="tiny")
    yield running
    running.close()
