"""Fashion-MNIST: the published files or a clear refusal, never something else."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest

from edgeml.data import fashion_mnist
from edgeml.data.fashion_mnist import LABELS, load_fashion_mnist
from edgeml.data.opening import open_image_data
from edgeml.errors import DataError

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
NAMES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
needs_files = pytest.mark.skipif(
    not DEBIAN.is_dir(), reason="the Debian package dataset-fashion-mnist is not installed"
)


@pytest.fixture
def no_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fashion_mnist, "_DEBIAN_FOLDER", tmp_path / "not-installed")
    monkeypatch.delenv("EDGEML_DATA_DIR", raising=False)


@needs_files
def test_the_published_files_are_the_published_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEML_DATA_DIR", raising=False)
    dataset = open_image_data("fashion-mnist")
    assert (dataset.name, dataset.labels) == ("fashion-mnist", LABELS)
    images = np.asarray(dataset.items)
    assert (images.shape, images.dtype) == ((70_000, 28, 28), np.uint8)
    # The set is balanced: 6,000 and 1,000 of each class.
    assert np.bincount(dataset.targets[:60_000]).tolist() == [6000] * 10
    assert np.bincount(dataset.targets[60_000:]).tolist() == [1000] * 10
    assert dataset.fixed_test is not None
    assert dataset.fixed_test.tolist() == list(range(60_000, 70_000))
    # The first picture is an ankle boot, and its sole is darker than its surroundings.
    assert LABELS[dataset.targets[0]] == "Ankle boot"
    assert images[0, 0].max() == 0
    assert images[0, 20].max() > 200
    assert str(DEBIAN) not in str(dict(dataset.source))


@needs_files
def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    for name in NAMES:
        shutil.copyfile(DEBIAN / name, tmp_path / name)
    data = bytearray((tmp_path / NAMES[3]).read_bytes())
    data[100] ^= 1
    (tmp_path / NAMES[3]).write_bytes(data)
    with pytest.raises(DataError, match=f"{NAMES[3]} is not the published file; sha256 8d3605d196"):
        load_fashion_mnist(tmp_path)


def test_another_set_under_the_same_names_is_refused(tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / name).write_bytes(gzip.compress(b"digits"))
    with pytest.raises(DataError, match=f"{NAMES[0]} is not the published file"):
        load_fashion_mnist(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{NAMES[0]} is missing"):
        load_fashion_mnist(tmp_path)


@pytest.mark.usefixtures("no_source")
def test_without_a_source_both_ways_to_get_one_are_named() -> None:
    with pytest.raises(DataError) as caught:
        open_image_data("fashion-mnist")
    assert "apt-get install dataset-fashion-mnist" in str(caught.value)
    assert "$EDGEML_DATA_DIR/fashion-mnist" in str(caught.value)


@pytest.mark.usefixtures("no_source")
def test_the_users_own_folder_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own/fashion-mnist"
    own.mkdir(parents=True)
    (tmp_path / "not-installed").mkdir()
    monkeypatch.setenv("EDGEML_DATA_DIR", str(tmp_path / "own"))
    with pytest.raises(DataError) as caught:
        load_fashion_mnist()
    assert caught.value.source == str(own)


@pytest.mark.usefixtures("no_source")
def test_the_package_is_found_when_the_users_folder_has_no_such_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "not-installed").mkdir()
    monkeypatch.setenv("EDGEML_DATA_DIR", str(tmp_path / "own"))
    with pytest.raises(DataError) as caught:
        load_fashion_mnist()
    assert caught.value.source == str(tmp_path / "not-installed")
