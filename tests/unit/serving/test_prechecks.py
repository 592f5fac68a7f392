"""What is refused before a server starts, and which server is started."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgeml.errors import HostError, InputError
from edgeml.serving.installation.finding import Installation
from edgeml.serving.repository.publish import publish_bundle
from edgeml.serving.server import choosing, prechecks
from edgeml.serving.server.choosing import choose_installation, container_command
from edgeml.serving.server.launching import Launch, command_for
from edgeml.serving.server.prechecks import (
    check_gpu_there,
    check_on_gpu,
    check_shared_memory,
    check_stub_numpy,
)
from edgeml.serving.server.records import read_record, write_record
from edgeml.serving.server.serve import start_triton
from edgeml.serving.server.status import ModelStatus


@pytest.fixture
def own(tmp_path) -> Installation:
    """Our own installation, without its programs: a folder of packages with NumPy 1."""
    site, backends = tmp_path / "site", tmp_path / "backends"
    (site / "numpy-1.26.4.dist-info").mkdir(parents=True)
    (site / "onnxruntime-1.32.0.dist-info").mkdir()
    (backends / "python").mkdir(parents=True)
    (backends / "python/edgeml.json").write_text(json.dumps({"site": str(site)}))
    return Installation(
        root=tmp_path, tritonserver=tmp_path / "t", backends=backends, origin="own", python=11
    )


def rename_numpy(own: Installation, name: str | None) -> None:
    old = own.root / "site/numpy-1.26.4.dist-info"
    if name is None:
        old.rmdir()
    else:
        old.rename(old.with_name(name))


def test_numpy_1_in_the_stubs_is_fine_and_other_installations_are_not_looked_at(own, tmp_path):
    check_stub_numpy(own)
    check_stub_numpy(replace(own, origin="path", backends=tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("numpy-2.4.6.dist-info", "hold NumPy 2, and the stubs read"),
        ("numpy-10.0.dist-info", "hold NumPy 10,"),
        (None, "hold no NumPy"),
    ],
)
def test_numpy_2_in_the_stubs_is_refused_before_the_start(own, tiny, repository, name, words):
    publish_bundle(tiny, repository)
    rename_numpy(own, name)
    with pytest.raises(HostError, match=f"{words}.*edgeml triton install"):
        start_triton(repository, installation=own)


def test_packages_that_are_gone_are_an_error(own):
    (own.backends / "python/edgeml.json").unlink()
    with pytest.raises(HostError, match="packages of Triton's stubs are not found"):
        check_stub_numpy(own)


def test_shared_memory_is_counted_by_instances(own, tiny, sentiment, repository, monkeypatch):
    publish_bundle(tiny, repository)
    publish_bundle(sentiment, repository, name="sentiment")
    names = [path.name for path in repository.iterdir()]
    assert "sentiment_text" in names  # an ensemble has no process of its own
    room = SimpleNamespace(f_bavail=2047, f_frsize=4096, f_blocks=4096)
    monkeypatch.setattr(prechecks.os, "statvfs", lambda _: room)
    with pytest.raises(HostError, match=r"8\.0 MiB free of 16\.0, and 4 instances need 8 MiB"):
        check_shared_memory(own, repository, names)
    room.f_bavail = 2048
    check_shared_memory(own, repository, names)


def test_a_required_gpu_that_is_not_there_is_named(own):
    check_gpu_there(own, gpu=True)
    with pytest.raises(HostError, match="has no ONNX Runtime for GPUs"):
        check_gpu_there(own, gpu=False)
    make_gpu_backend(own.backends)
    with pytest.raises(HostError, match="no NVIDIA GPU answers"):
        check_gpu_there(own, gpu=False)


def test_a_model_that_fell_back_although_a_gpu_is_required_is_named(tiny, repository):
    publish_bundle(tiny, repository, name="allowed")
    publish_bundle(tiny, repository, name="forbidden", policy="forbidden")
    rows = [
        ModelStatus(name=name, version="1", state="ready", device=device)
        for name, device in (("forbidden", "cpu"), ("allowed", "gpu"))
    ]
    check_on_gpu(repository, rows)
    with pytest.raises(HostError, match="the model 'allowed' was placed on the CPU"):
        check_on_gpu(repository, [replace(rows[1], device="cpu")])


def make_gpu_backend(backends: Path) -> None:
    (backends / "onnxruntime").mkdir(parents=True)
    (backends / "onnxruntime/libtriton_onnxruntime.so").write_bytes(b"")


@pytest.fixture
def on_path(tmp_path, monkeypatch) -> Path:
    program = tmp_path / "nvidia/bin/tritonserver"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    return program


def test_a_server_on_path_comes_first_if_it_can_use_a_gpu(own, on_path, monkeypatch):
    monkeypatch.setattr(choosing, "find_installation", lambda: own)
    assert choose_installation() == own
    make_gpu_backend(on_path.parents[1] / "backends")
    found = choose_installation()
    assert (found.tritonserver, found.origin, found.serves_gpu) == (on_path, "path", True)


def test_without_any_server_the_containers_command_is_printed(
    tiny, repository, tmp_path, monkeypatch
):
    publish_bundle(tiny, repository)
    publish_bundle(tiny, repository, name="review", config_only=True)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("EDGEML_TRITON_HOME", str(tmp_path / "nothing"))
    with pytest.raises(HostError) as caught:
        start_triton(repository, http_port=0, grpc_port=65001)
    text = str(caught.value)
    assert "edgeml triton install" in text
    assert "-p 127.0.0.1:8000:8000 -p 127.0.0.1:65001:8001 -p 127.0.0.1:8002:8002" in text
    assert f"-v '{repository}':/models:ro nvcr.io/nvidia/tritonserver:24.10-py3" in text
    assert "--model-control-mode=explicit --exit-on-error=false --load-model=tiny" in text
    assert "review" not in text
    assert "\n" not in text


def test_the_containers_command_knows_a_gpu():
    ports = (1, 2, 3)
    gpu = container_command(Path("/m"), models=["a"], ports=ports, gpu=True)
    cpu = container_command(Path("/m"), models=["a"], ports=ports, gpu=False)
    assert ("--gpus=all" in gpu, "--model-config-name=cpu" in gpu) == (True, False)
    assert ("--gpus=all" in cpu, "--model-config-name=cpu" in cpu) == (False, True)


@pytest.mark.parametrize(("drain_s", "seconds"), [(0.2, 1), (10, 10), (10.5, 11)])
def test_the_time_to_drain_reaches_the_server(own, tmp_path, drain_s, seconds):
    plan = Launch(
        found=own,
        repository=tmp_path,
        root=tmp_path,
        gpu=False,
        ports=(1, 2, 3),
        token="t_",
        log_path=tmp_path / "log",
        drain_s=drain_s,
    )
    assert f"--exit-timeout-secs={seconds}" in command_for(plan, ["a"])
    assert plan.link is None


@pytest.mark.parametrize("drain_s", [0, -1, float("nan"), float("inf")])
def test_a_time_to_drain_that_is_none_is_refused(tmp_path, drain_s):
    with pytest.raises(InputError, match="drain_s is"):
        start_triton(tmp_path, drain_s=drain_s)


def test_a_record_carries_what_supervision_saw(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    seen = {"restarts": 3, "left": {"m": "why"}}
    write_record(
        1, pid=os.getpid(), grpc="g", metrics="m", log=tmp_path, skipped=(), supervision=seen
    )
    record = read_record(1)
    assert record is not None
    assert record.supervision == seen
