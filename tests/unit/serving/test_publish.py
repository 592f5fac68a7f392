"""Publishing: the layout, versions, refusals, and a kill at every step."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from edgeml.core.bundle import Bundle
from edgeml.core.files import sha256_of
from edgeml.errors import HostError, InputError, IntegrityError
from edgeml.serving.repository.config import CPU_CONFIG, DEFAULT_CONFIG, read_config
from edgeml.serving.repository.contract import contract_of, decode_contract
from edgeml.serving.repository.options import ServingOptions
from edgeml.serving.repository.publish import publish_bundle
from edgeml.serving.repository.selecting import select_models
from tests.unit.serving.tiny_bundle import LABELS, make_tiny_bundle

# What a version keeps beside what is served, so that it can be checked and served again.
KEPT = {
    "labels.txt",
    "published.json",
    "bundle/manifest.json",
    "bundle/golden/golden.json",
    "bundle/golden/tensors.npz",
    *(f"bundle/golden/outputs-{name}.npz" for name in ("fp32", "fp16", "int8")),
}


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def check_consistent(folder: Path) -> None:
    """Every configuration that is there names a version that is whole."""
    for relative in (DEFAULT_CONFIG, CPU_CONFIG):
        if not (folder / relative).is_file():
            continue
        served = read_config(folder / relative)
        rows = decode_contract(served.contract_text)["variants"].values()
        hashes = {row["file"]: row["sha256"] for row in rows}
        (version,) = served.versions
        for file in served.files:
            assert sha256_of(folder / str(version) / file) == hashes[file]


def test_the_layout(tiny: Bundle, repository: Path):
    done = publish_bundle(tiny, repository)
    assert (done.model, done.version, done.path) == ("tiny", 1, repository / "tiny")
    assert files_of(repository) == {
        "tiny/config.pbtxt",
        "tiny/configs/cpu.pbtxt",
        "tiny/warmup/1/0.raw",
        *(f"tiny/1/{name}" for name in ("fp32.onnx", "fp16.onnx", "int8.onnx", "contract.json")),
        *(f"tiny/1/{name}" for name in KEPT),
    }
    assert (done.path / "1/labels.txt").read_text(encoding="utf-8").splitlines() == list(LABELS)
    assert json.loads((done.path / "1/contract.json").read_bytes()) == contract_of(tiny)
    check_consistent(done.path)
    first = tiny.golden().tensors["image"][0]
    assert (done.path / "warmup/1/0.raw").read_bytes() == first.tobytes()
    assert select_models(repository, use_cpu_config=True) == (["tiny"], [])


def test_without_warm_up_nothing_is_written_for_it(tiny: Bundle, repository: Path):
    done = publish_bundle(tiny, repository, options=ServingOptions(warmup=False))
    assert not (done.path / "warmup").exists()
    assert "model_warmup" not in (done.path / "config.pbtxt").read_text(encoding="utf-8")


def test_only_files_that_a_configuration_names_are_published(tmp_path, repository):
    bundle = make_tiny_bundle(tmp_path / "tiny.bundle", chosen="fp32")
    assert "tiny/1/int8.onnx" not in files_of(publish_bundle(bundle, repository).path.parent)


def test_the_next_version_leaves_the_old_one_and_is_the_one_named(tiny, repository):
    first = publish_bundle(tiny, repository)
    before = files_of(first.path / "1")
    second = publish_bundle(tiny, repository)
    assert (second.version, files_of(first.path / "1")) == (2, before)
    assert read_config(second.path / DEFAULT_CONFIG).versions == (2,)
    assert read_config(second.path / CPU_CONFIG).versions == (2,)
    check_consistent(second.path)


def test_another_policy_removes_the_configuration_that_it_does_not_have(tiny, repository):
    publish_bundle(tiny, repository)
    done = publish_bundle(tiny, repository, policy="required")
    assert not (done.path / "configs").exists()
    assert files_of(done.path / "2") == {"fp16.onnx", "contract.json", *KEPT}
    _, (skipped,) = select_models(repository, use_cpu_config=True)
    assert "needs a GPU" in skipped.reason
    assert select_models(repository, use_cpu_config=False) == (["tiny"], [])


def test_configurations_alone_are_not_served(tiny, repository):
    done = publish_bundle(tiny, repository, config_only=True)
    names = {"config.pbtxt", "configs/cpu.pbtxt"}
    assert (done.version, files_of(done.path)) == (1, names)
    _, (skipped,) = select_models(repository, use_cpu_config=True)
    assert (skipped.name, "no version folder" in skipped.reason) == ("tiny", True)
    assert publish_bundle(tiny, repository).version == 1


def test_configurations_alone_leave_a_served_version_served(tiny, repository):
    before = files_of(publish_bundle(tiny, repository).path)
    done = publish_bundle(tiny, repository, config_only=True, options=ServingOptions(num_threads=2))
    assert (done.version, files_of(done.path)) == (1, before)
    assert read_config(done.path / CPU_CONFIG).versions == (1,)
    assert select_models(repository, use_cpu_config=True) == (["tiny"], [])
    check_consistent(done.path)


def test_configurations_alone_take_their_contract_along(tiny, repository):
    done = publish_bundle(tiny, repository)
    labels = LABELS[::-1]
    other = replace(tiny, manifest=replace(tiny.manifest, labels=labels))
    publish_bundle(other, repository, config_only=True)
    kept = json.loads((done.path / "1/contract.json").read_bytes())
    assert kept["labels"] == list(labels)
    assert kept == decode_contract(read_config(done.path / CPU_CONFIG).contract_text)


def test_configurations_alone_do_not_break_a_served_version(tiny, tmp_path, repository):
    done = publish_bundle(tiny, repository)
    texts = {name: (done.path / name).read_bytes() for name in (DEFAULT_CONFIG, CPU_CONFIG)}
    other = make_tiny_bundle(tmp_path / "other.bundle", seed=1)
    with pytest.raises(InputError, match=r"version 1 .* publish without --config-only") as caught:
        publish_bundle(other, repository, name="tiny", config_only=True)
    assert "\n" not in str(caught.value)
    assert texts == {name: (done.path / name).read_bytes() for name in texts}
    assert select_models(repository, use_cpu_config=True) == (["tiny"], [])


def test_configurations_alone_do_not_name_a_file_that_was_not_published(tmp_path, repository):
    bundle = make_tiny_bundle(tmp_path / "tiny.bundle")
    publish_bundle(bundle, repository, policy="forbidden")
    with pytest.raises(InputError, match=r"'fp32\.onnx' is not"):
        publish_bundle(bundle, repository, config_only=True)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../up", "a/b", "/tmp/x", ".hidden", "-flag", "a\0b", "a b", "x" * 129]
)
def test_a_name_that_is_no_name_is_refused_and_writes_nothing(tiny, repository, name):
    with pytest.raises(InputError, match="the model name is"):
        publish_bundle(tiny, repository, name=name)
    assert not repository.exists()


def test_a_policy_that_is_none_writes_nothing(tiny, repository):
    with pytest.raises(InputError, match="fallback policy"):
        publish_bundle(tiny, repository, policy="sometimes")
    assert not repository.exists()


def test_a_flipped_byte_in_the_bundle_publishes_nothing(tmp_path, repository):
    bundle = make_tiny_bundle(tmp_path / "tiny.bundle")
    first = publish_bundle(bundle, repository)
    file = bundle.path / "variants/int8/model.onnx"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(IntegrityError, match="sha256"):
        publish_bundle(bundle, repository)
    assert [path.name for path in first.path.iterdir() if path.name.isdecimal()] == ["1"]
    assert not list(first.path.glob(".*"))
    check_consistent(first.path)


def test_a_place_that_cannot_be_written_is_named(tiny, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(HostError, match="file/tiny' cannot be written"):
        publish_bundle(tiny, tmp_path / "file")


def test_publishes_at_once_take_different_versions(tiny, repository):
    versions = []
    threads = [
        threading.Thread(target=lambda: versions.append(publish_bundle(tiny, repository).version))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(versions) == [1, 2, 3, 4]
    check_consistent(repository / "tiny")


KILLED = """
import sys, time
from pathlib import Path
from edgeml.core.bundle import Bundle
from edgeml.serving.repository import publish

def stay(*arguments):
    print("here", flush=True)
    time.sleep(60)

def half_a_copy(source, target):
    data = Path(source).read_bytes()
    Path(target).write_bytes(data[: len(data) // 2])
    stay()

def first_only(path, text, replace=publish.write_whole):
    if path.name == "config.pbtxt":
        stay()
    replace(path, text)

step = sys.argv[3]
if step == "copying":
    publish.shutil.copyfile = half_a_copy
elif step == "placed":
    publish._place_configs = stay
elif step == "one configuration":
    publish.write_whole = first_only
elif step == "renaming":
    Path.replace = stay
publish.publish_bundle(Bundle.read(sys.argv[1]), sys.argv[2])
"""


@pytest.mark.parametrize("step", ["copying", "placed", "one configuration", "renaming"])
@pytest.mark.parametrize("published_before", [0, 1])
def test_a_kill_leaves_nothing_half_written_that_is_served(
    tiny, repository, step, published_before
):
    for _ in range(published_before):
        publish_bundle(tiny, repository)
    command = [sys.executable, "-c", KILLED, str(tiny.path), str(repository), step]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "here\n"
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    folder = repository / "tiny"
    check_consistent(folder)
    for use_cpu_config in (True, False):
        built, skipped = select_models(repository, use_cpu_config=use_cpu_config)
        ready = published_before or (use_cpu_config and step == "one configuration")
        assert (built, len(skipped)) == ((["tiny"], 0) if ready else ([], 1))
    assert publish_bundle(tiny, repository).version > published_before
    check_consistent(folder)
    assert not list(folder.glob(".*.partial-*"))
    assert select_models(repository, use_cpu_config=True) == (["tiny"], [])
