"""Data sets of a hub: Parquet files in their layout, and a hub that does not answer."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeml.data.dataset import make_split
from edgeml.data.opening import open_image_data, place_of, prepare_images, reopen
from edgeml.errors import DataError
from edgeml.tasks.image import ImagePreprocessing
from tests.pictures import rgb_file

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def _write(place: Path, labels: list[Any], *, names: list[str] | None = None) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    pictures = [
        {"bytes": rgb_file() + bytes([index]), "path": None} for index in range(len(labels))
    ]
    table = arrow.table({"image": pictures, "label": labels})
    if names:
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        info = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": info})
    parquet.write_table(table, place)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    _write(tmp_path / "set/data/train-00000-of-00001.parquet", [0, 1] * 8, names=["cat", "dog"])
    _write(tmp_path / "set/data/test-00000-of-00001.parquet", [1, 0, 1], names=["cat", "dog"])
    return tmp_path / "set"


def test_a_folder_of_parquet_files_is_a_data_set(folder: Path) -> None:
    dataset = open_image_data(folder)
    assert dataset.labels == ("cat", "dog")
    assert len(dataset.items) == 19
    split = make_split(dataset, seed=0)
    assert dataset.targets[split.test].tolist() == [1, 0, 1]
    again = reopen({"place": place_of(folder)})
    assert again.fingerprint == dataset.fingerprint
    contract = ImagePreprocessing(height=8, width=8)
    assert prepare_images(dataset, np.arange(3), contract).shape == (3, 8, 8, 3)


def test_labels_may_be_words(tmp_path: Path) -> None:
    _write(tmp_path / "set/train.parquet", ["owl", "yak"] * 4)
    assert open_image_data(tmp_path / "set").labels == ("owl", "yak")


def test_columns_that_do_not_fit_are_named(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    parquet.write_table(arrow.table({"text": ["a"]}), tmp_path / "set/train.parquet")
    with pytest.raises(DataError, match="its columns are text"):
        open_image_data(tmp_path / "set")


def test_a_hubs_set_is_found_in_the_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: list[Any] = []

    def cached(name: str, *, local_files_only: bool = False, **_: Any) -> str:
        asked.append((name, local_files_only))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", cached)
    dataset = open_image_data("owner/pets")
    assert (dataset.name, asked) == ("owner/pets", [("owner/pets", True)])
    assert place_of("owner/pets") == {"hub": "owner/pets"}


@pytest.mark.timeout(30)
def test_a_hub_that_does_not_answer_costs_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def hang(*_: Any, **__: Any) -> None:
        time.sleep(20)

    def nothing(*_: Any, **__: Any) -> str:
        raise OSError("nothing is in the cache")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", hang)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", nothing)
    began = time.monotonic()
    with pytest.raises(DataError, match=r"cannot be reached .*class/xxx\.png.*'fashion-mnist'"):
        open_image_data("owner/pets")
    assert time.monotonic() - began < 8
