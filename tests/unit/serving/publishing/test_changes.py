"""Publishing and rolling back without a server: what is kept, what comes back, what is refused."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest

import edgeml
from edgeml.errors import (
    HostError,
    InputError,
    IntegrityError,
    PublishError,
    ServerUnreachableError,
)
from edgeml.serving.publishing import changing, transaction
from edgeml.serving.publishing.journal import locked
from edgeml.serving.repository.config import CPU_CONFIG, DEFAULT_CONFIG, read_config
from edgeml.serving.repository.publish import versions_in
from edgeml.serving.repository.selecting import select_models
from edgeml.workflows import publishing
from tests.unit.serving.publishing.killing import steps_in
from tests.unit.serving.tiny_bundle import make_tiny_bundle


@pytest.fixture(scope="module")
def bundles(tmp_path_factory) -> list[edgeml.Bundle]:
    folder = tmp_path_factory.mktemp("bundles")
    return [make_tiny_bundle(folder / f"{seed}.bundle", seed=seed) for seed in (0, 1)]


@pytest.fixture
def twice(bundles, repository):
    """A repository with versions 1 and 2."""
    for bundle in bundles:
        edgeml.publish(bundle, repository=repository)
    return repository


def files_of(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_rollback_restores_the_version_whole(bundles, repository):
    options = edgeml.ServingOptions(num_threads=2, max_batch_size=4)
    first = edgeml.publish(bundles[0], repository=repository, options=options)
    before = files_of(first.path)
    edgeml.publish(bundles[1], repository=repository, fallback="forbidden")
    assert not (first.path / CPU_CONFIG).exists()
    done = edgeml.rollback("tiny", repository=repository)
    assert (done.version, done.previous, done.server) == (1, 2, None)
    after = files_of(first.path)
    assert {path: after[path] for path in before} == before
    assert select_models(repository, use_cpu_config=True) == (["tiny"], [])


def test_a_rollback_follows_what_was_served_not_the_numbers(twice, bundles):
    edgeml.rollback("tiny", repository=twice)
    third = edgeml.publish(bundles[1], repository=twice)
    assert (third.version, third.previous) == (3, 1)
    assert edgeml.rollback("tiny", repository=twice).version == 1
    with pytest.raises(InputError, match=r"no version before 1 \(present: 1, 2, 3\)"):
        edgeml.rollback("tiny", repository=twice)
    assert edgeml.rollback("tiny", repository=twice, to=2).version == 2


def test_so_many_versions_stay_and_the_way_back_among_them(bundles, repository):
    edgeml.publish(bundles[0], repository=repository)
    for number in range(2, 5):
        edgeml.publish(bundles[1], repository=repository)
        edgeml.rollback("tiny", repository=repository, to=1)
        assert versions_in(repository / "tiny") == set(range(1, number + 1))
    done = edgeml.publish(bundles[1], repository=repository, keep=2)
    assert (done.version, done.previous, done.removed) == (5, 1, (2, 3, 4))
    assert versions_in(repository / "tiny") == {1, 5}
    assert sorted(path.name for path in (repository / "tiny/warmup").iterdir()) == ["1", "5"]
    assert edgeml.publish(bundles[1], repository=repository, keep=1).removed == (1,)
    assert versions_in(repository / "tiny") == {5, 6}
    with pytest.raises(InputError, match="keep is 0"):
        edgeml.publish(bundles[1], repository=repository, keep=0)


def test_parts_that_a_version_lacks_retire_and_come_back(bundles, repository):
    plain, encoded = edgeml.ServingOptions(), edgeml.ServingOptions(encoded=True)
    edgeml.publish(bundles[0], repository=repository, options=plain)
    edgeml.publish(bundles[1], repository=repository, options=encoded)
    names = ["tiny", "tiny_decoder", "tiny_encoded", "tiny_labels"]
    assert select_models(repository, use_cpu_config=True) == (names, [])
    edgeml.rollback("tiny", repository=repository)
    assert select_models(repository, use_cpu_config=True) == (["tiny"], [])
    edgeml.rollback("tiny", repository=repository, to=2)
    assert select_models(repository, use_cpu_config=True) == (names, [])
    edgeml.publish(bundles[0], repository=repository, options=plain)
    assert select_models(repository, use_cpu_config=True) == (["tiny"], [])
    edgeml.publish(bundles[0], repository=repository, options=encoded)
    assert select_models(repository, use_cpu_config=True) == (names, [])


def test_a_version_that_answers_otherwise_is_not_published(twice, bundles, monkeypatch):
    before = files_of(twice)
    failed = SimpleNamespace(name="golden int8", detail="largest difference 0.3 of 1e-05 allowed")
    monkeypatch.setattr(
        publishing, "golden_check", lambda *_: edgeml_check(ok=False, **vars(failed))
    )
    with pytest.raises(PublishError, match=r"version 3 .*difference 0\.3 .*version 2 keeps") as one:
        edgeml.publish(bundles[0], repository=twice)
    assert "\n" not in str(one.value)
    assert (one.value.version, one.value.kept) == (3, 2)
    assert files_of(twice) == before
    assert steps_in(twice) == []


def edgeml_check(**values):
    from edgeml.core.bundle import Check

    return Check(**values)


@pytest.mark.parametrize("file", ["int8.onnx", "contract.json", "bundle/golden/golden.json"])
def test_a_version_that_is_damaged_on_disk_does_not_come_back(twice, file):
    path = twice / "tiny/1" / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"of version 1 has the sha256 .* was published"):
        edgeml.rollback("tiny", repository=twice)
    assert read_config(twice / "tiny" / DEFAULT_CONFIG).versions == (2,)
    path.unlink()
    with pytest.raises(IntegrityError, match="is missing"):
        edgeml.rollback("tiny", repository=twice)


def test_a_damaged_record_is_told(twice):
    path = twice / "tiny/1/published.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "replaces": 7}))
    with pytest.raises(IntegrityError, match="has changed since it was written"):
        edgeml.rollback("tiny", repository=twice)
    path.unlink()
    with pytest.raises(InputError, match=r"keeps no published\.json"):
        edgeml.rollback("tiny", repository=twice)


@pytest.mark.parametrize("model", ["nothing", "", "..", "a/b", "tiny__candidate"])
def test_a_model_that_is_not_there_is_told(twice, model):
    with pytest.raises(InputError, match="there is no model"):
        edgeml.rollback(model, repository=twice)


def test_a_version_that_is_served_or_missing_is_told(twice):
    with pytest.raises(InputError, match="version 2 of 'tiny' is served already"):
        edgeml.rollback("tiny", repository=twice, to=2)
    with pytest.raises(InputError, match="version 9 of 'tiny' is not there"):
        edgeml.rollback("tiny", repository=twice, to=9)


def test_a_server_that_does_not_answer_changes_nothing(twice, bundles):
    before = files_of(twice)
    for url in ("http://127.0.0.1:9", "grpc://127.0.0.1:9"):
        with pytest.raises(ServerUnreachableError):
            edgeml.publish(bundles[0], repository=twice, server=url)
        with pytest.raises(ServerUnreachableError):
            edgeml.rollback("tiny", repository=twice, server=url)
    assert files_of(twice) == before


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://a:1", "https://127.0.0.1:8000"])
def test_an_address_that_is_none_is_told(twice, bundles, url):
    with pytest.raises(InputError, match="was expected"):
        edgeml.publish(bundles[0], repository=twice, server=url)


def test_somebodys_own_model_of_a_candidates_name_is_left_alone(bundles, repository, monkeypatch):
    options = edgeml.ServingOptions(encoded=True)
    edgeml.publish(bundles[0], repository=repository, options=options)
    shutil.copytree(repository / "tiny", repository / "tiny__candidate")
    before = files_of(repository)
    with pytest.raises(InputError, match="has a model 'tiny__candidate' that no publish put there"):
        edgeml.publish(bundles[1], repository=repository, options=options)
    assert files_of(repository) == before
    with pytest.raises(InputError, match="names that end in '__candidate'"):
        edgeml.publish(bundles[1], repository=repository, name="x__candidate")


def test_a_second_publisher_is_told_at_once(twice, bundles):
    before = files_of(twice)
    words = "import sys; from pathlib import Path; from edgeml.serving.publishing.journal import "
    words += "locked\nwith locked(Path(sys.argv[1]), 'tiny'): print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", words, str(twice)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as other:
        other.stdout.readline()
        for verb in (
            lambda: edgeml.publish(bundles[0], repository=twice),
            lambda: edgeml.rollback("tiny", repository=twice),
        ):
            with pytest.raises(HostError, match=rf"is under way \(process {other.pid}\)"):
                verb()
        other.stdin.close()
    with locked(twice, "tiny"):
        pass
    after = files_of(twice)
    assert {path: after[path] for path in before if path.suffix != ".lock"} == {
        path: before[path] for path in before if path.suffix != ".lock"
    }


def test_a_full_disk_is_told_before_and_amid(twice, bundles, monkeypatch):
    before = files_of(twice)
    with monkeypatch.context() as patch:
        patch.setattr(changing.shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 20))
        with pytest.raises(HostError, match=r"has 1 MiB free, and a version of 'tiny' needs 8"):
            edgeml.publish(bundles[0], repository=twice)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    # While files are staged; and amid the switch, when one configuration names the new version.
    for target, name in ((changing, "sync_tree"), (transaction, "place_configs")):
        with monkeypatch.context() as patch:
            patch.setattr(target, name, full)
            with pytest.raises(HostError, match=r"cannot be written .*No space left"):
                edgeml.publish(bundles[0], repository=twice)
        assert files_of(twice) == before
        assert steps_in(twice) == []


def test_a_repository_that_cannot_be_written_is_told(bundles, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(HostError, match="cannot be written"):
        edgeml.publish(bundles[0], repository=tmp_path / "file")


def test_configurations_alone_go_to_no_server(bundles, repository):
    with pytest.raises(InputError, match="configurations alone are not served"):
        edgeml.publish(
            bundles[0], repository=repository, config_only=True, server="grpc://127.0.0.1:9"
        )


def test_labels_belong_to_their_version(twice):
    config = (twice / "tiny" / DEFAULT_CONFIG).read_text()
    assert 'label_filename: "2/labels.txt"' in config
    edgeml.rollback("tiny", repository=twice)
    config = (twice / "tiny" / DEFAULT_CONFIG).read_text()
    assert 'label_filename: "1/labels.txt"' in config
