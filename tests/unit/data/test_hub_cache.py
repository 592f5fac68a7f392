"""A hub's data sets: from the cache, from a hub on this machine, and from one that is silent."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeml.data.opening import open_image_data, place_of, reopen
from edgeml.errors import DataError, InputError
from tests.local_hub import LocalHub, serving, silent
from tests.pictures import rgb_file

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
hub = pytest.importorskip("huggingface_hub")

CONVERTED = "refs/convert/parquet"


def _file(labels: list[int]) -> bytes:
    sink = arrow.BufferOutputStream()
    pictures = [{"bytes": rgb_file() + bytes([index])} for index in range(len(labels))]
    parquet.write_table(arrow.table({"image": pictures, "label": labels}), sink)
    return bytes(sink.getvalue())


@pytest.fixture
def local_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    with serving(monkeypatch, tmp_path / "cache") as server:
        yield server


def test_a_set_is_fetched_once_and_then_found_in_the_cache(local_hub: LocalHub) -> None:
    train, test = _file([0, 1] * 4), _file([1, 0])
    card = b"---\nconfigs: [{config_name: a, data_dir: a, default: true}, {config_name: b}]\n---\n"
    local_hub.branches["main"] = {
        "README.md": card,
        "a/train-0.parquet": train,
        "a/test-0.parquet": test,
        "b/train-0.parquet": _file([2, 3]),
        "load.py": b"raise SystemExit",
    }
    dataset = open_image_data("owner/pets")
    assert (dataset.name, dataset.labels, len(dataset.items)) == ("owner/pets", ("0", "1"), 10)
    assert dataset.published  # its parts are as their publisher has made them
    assert dataset.source == {
        "kind": "data set of a hub", "revision": local_hub.commit("main"), "configuration": "a",
    }  # fmt: skip
    assert sorted(local_hub.sent) == ["README.md", "a/test-0.parquet", "a/train-0.parquet"]
    local_hub.down = True
    local_hub.sent.clear()
    again = reopen({"place": place_of("owner/pets")})
    assert (again.fingerprint, local_hub.sent) == (dataset.fingerprint, [])


def test_a_configuration_is_chosen_with_the_id(local_hub: LocalHub) -> None:
    local_hub.branches["main"] = {
        "a/train-0.parquet": _file([0, 1]), "b/train-0.parquet": _file([4, 5, 6]),
    }  # fmt: skip
    with pytest.raises(DataError, match=r"no default: a, b; .* NAME:CONFIGURATION"):
        open_image_data("owner/pets")
    assert local_hub.sent == []
    assert open_image_data("owner/pets:b").labels == ("4", "5", "6")
    assert place_of("owner/pets:b") == {"hub": "owner/pets:b"}
    with pytest.raises(InputError, match="--groups"):
        open_image_data("owner/pets:b", groups="groups.csv")


def test_a_set_that_is_not_kept_as_parquet_is_taken_as_the_hub_converted_it(
    local_hub: LocalHub,
) -> None:
    local_hub.branches["main"] = {"README.md": b"# Pets", "pets.zip": b"PK"}
    with pytest.raises(DataError, match="no Parquet files, and the hub has not converted it"):
        open_image_data("owner/pets")
    local_hub.branches[CONVERTED] = {
        "default/train/0000.parquet": _file([0, 1] * 2), "default/test/0000.parquet": _file([1]),
    }  # fmt: skip
    dataset = open_image_data("owner/pets")
    assert dataset.fixed_test is not None
    assert dataset.fixed_test.tolist() == [4]
    local_hub.down = True
    assert open_image_data("owner/pets").fingerprint == dataset.fingerprint


def test_half_a_set_in_the_cache_is_fetched_to_the_full(local_hub: LocalHub) -> None:
    names = [f"data/train-{number:05}-of-00002.parquet" for number in range(2)]
    local_hub.branches["main"] = {name: _file([0, 1]) for name in names}
    hub.snapshot_download("owner/pets", repo_type="dataset", allow_patterns=names[0])
    local_hub.down = True
    with pytest.raises(DataError, match="unfit: 1 of the 2 files data/train"):
        open_image_data("owner/pets")
    local_hub.down = False
    assert len(open_image_data("owner/pets").items) == 4


@pytest.mark.timeout(30)
def test_a_hub_that_does_not_answer_costs_five_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with silent(monkeypatch, tmp_path):
        began = time.monotonic()
        with pytest.raises(DataError, match=r"cannot be reached .*class/xxx\.png.*'fashion-mnist'"):
            open_image_data("owner/pets")
        assert time.monotonic() - began < 5
