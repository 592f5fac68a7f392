"""A hub's data sets: from the cache, from a hub on this machine, and from one that is silent."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeml.core import answering
from edgeml.data import hub_cache
from edgeml.data.opening import open_image_data, place_of, reopen
from edgeml.errors import DataError, HostError, InputError
from edgeml.tasks.image import ImagePreprocessing
from edgeml.workflows.image_data import open_training_images
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
    assert dataset.fixed_test.tolist() == [0]
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


@pytest.mark.parametrize(
    ("branch", "train", "test"),
    [
        ("main", ["train.parquet"], "test.parquet"),
        (CONVERTED, [f"default/train/000{n}.parquet" for n in (0, 1)], "default/test/0000.parquet"),
    ],
)
def test_a_download_that_was_killed_is_never_taken_for_the_set(
    branch: str, train: list[str], test: str, local_hub: LocalHub
) -> None:
    local_hub.branches["main"] = {"README.md": b"# Pets", "pets.zip": b"PK"}
    local_hub.branches[branch] = {
        **{name: _file([0, 1] * 5) for name in train}, test: _file([0, 1]),
    }  # fmt: skip
    hub.snapshot_download(
        "owner/pets", repo_type="dataset", revision=branch, allow_patterns=train[0]
    )
    local_hub.down = True
    said = r"owner/pets: .*cannot be reached.* complete could not be checked.* are train in 1; "
    with pytest.warns(RuntimeWarning, match=said):
        assert len(open_image_data("owner/pets").items) == 10
    local_hub.down = False
    whole = open_image_data("owner/pets")
    assert (len(whole.items), whole.published) == (10 * len(train) + 2, True)
    local_hub.down = True
    local_hub.sent.clear()
    assert open_image_data("owner/pets").fingerprint == whole.fingerprint  # and no word of doubt
    assert local_hub.sent == []


def test_the_configuration_does_not_depend_on_what_is_cached(local_hub: LocalHub) -> None:
    local_hub.branches["main"] = {
        "a/train-0.parquet": _file([0, 1]), "b/train-0.parquet": _file([4, 5, 6]),
    }  # fmt: skip
    open_image_data("owner/pets:b")
    for down in (False, True):
        local_hub.down = down
        with pytest.raises(DataError, match=r"no default: a, b; .* NAME:CONFIGURATION"):
            open_image_data("owner/pets")
        assert open_image_data("owner/pets:b").labels == ("4", "5", "6")
    with pytest.raises(DataError, match=r"unfit: 1 of its 1 files are not there, first a/train"):
        open_image_data("owner/pets:a")
    local_hub.down = False
    assert open_image_data("owner/pets:a").labels == ("0", "1")


def _pets(local_hub: LocalHub) -> Path:
    """Fetch a set of two files; return the folder of the copy."""
    local_hub.branches["main"] = {
        "README.md": b"# Pets", "train.parquet": _file([0, 1] * 2), "test.parquet": _file([1, 0]),
    }  # fmt: skip
    open_image_data("owner/pets")
    local_hub.sent.clear()
    return Path(hub.snapshot_download("owner/pets", repo_type="dataset", local_files_only=True))


@pytest.mark.parametrize("name", ["test.parquet", "README.md"])
def test_a_file_that_was_taken_out_of_the_cache_is_fetched_again(
    name: str, local_hub: LocalHub
) -> None:
    folder = _pets(local_hub)
    (folder / name).resolve().unlink()
    (folder / name).unlink()
    local_hub.down = True
    with pytest.raises(DataError, match=rf"unfit: 1 of its 3 files are not there, first {name}"):
        open_image_data("owner/pets")
    local_hub.down = False
    assert len(open_image_data("owner/pets").items) == 6
    assert local_hub.sent == [name]


@pytest.mark.parametrize("record", ["", "[]", '{"files": 3}', '{"files": [3]}', "\0"])
def test_a_damaged_record_is_none(record: str, local_hub: LocalHub) -> None:
    folder = _pets(local_hub)
    (found,) = folder.parents[1].glob("edgeml/*.json")
    assert hub.scan_cache_dir(folder.parents[2]).warnings == []
    found.write_text(record)
    local_hub.down = True
    with pytest.warns(RuntimeWarning, match="could not be checked"):
        open_image_data("owner/pets")
    local_hub.down = False
    open_image_data("owner/pets")
    assert local_hub.sent == []  # the hub was asked, and nothing was lacking
    local_hub.down = True
    open_image_data("owner/pets")


def test_a_record_is_for_its_revision_alone(local_hub: LocalHub) -> None:
    _pets(local_hub)
    local_hub.branches["main"]["test.parquet"] = _file([1] * 4)
    hub.snapshot_download("owner/pets", repo_type="dataset", allow_patterns="train.parquet")
    dataset = open_image_data("owner/pets")
    assert dataset.source["revision"] == local_hub.commit("main")
    assert len(dataset.items) == 8


def test_the_parts_of_a_hubs_set_are_its_publishers_whichever_they_are(
    local_hub: LocalHub,
) -> None:
    """Without a test part, or with one that nobody labelled, the rest is still not ours to mend."""
    files = {"train-0.parquet": _file([0, 1] * 12), "validation-0.parquet": _file([0, 1] * 2)}
    local_hub.branches["main"] = {**files, "test-0.parquet": _file([-1] * 3)}
    dataset = open_image_data("owner/pets")
    assert (dataset.published, dataset.fixed_test) == (True, None)
    notes: list[str] = []
    done = open_training_images("owner/pets", None).prepared(
        ImagePreprocessing(height=8, width=8), seed=0, allow_leaks=False, skip_unreadable=False,
        shares=(0.2, None), progress=lambda event: notes.append(event.note),
    )  # fmt: skip
    assert done.findings["own_parts"] == ["validation"]
    assert done.findings["shared_between_parts"]["exact"] >= 4
    assert "4 exact copies" in notes[-1]
    local_hub.branches["main"] = {"train-0.parquet": _file([0, 1] * 4)}
    hub.snapshot_download("owner/pets", repo_type="dataset", allow_patterns="README.md")
    assert not open_image_data("owner/pets").published  # its parts will be ours


def test_a_disk_without_room_is_not_a_hub_that_is_away(
    local_hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    local_hub.branches["main"] = {"train.parquet": _file([0, 1])}
    fetch = hub.snapshot_download
    failures: list[Exception] = [
        OSError(errno.ENOSPC, "No space left on device"),
        PermissionError(errno.EACCES, "Permission denied"),
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    ]

    def refuse(*args: Any, **options: Any) -> str:
        if options.get("local_files_only"):
            return str(fetch(*args, **options))
        raise failures.pop(0)

    monkeypatch.setattr(hub, "snapshot_download", refuse)
    for words in ("No space left on device", "Permission denied"):
        with pytest.raises(HostError, match=rf"cache, '.*' \({words}\); .* HF_HUB_CACHE$"):
            open_image_data("owner/pets")
    with pytest.raises(DataError, match=r"the download broke off \(ConnectionResetError\); "):
        open_image_data("owner/pets")


def test_a_download_of_ours_that_was_killed_is_refused_without_the_hub(
    local_hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    local_hub.branches["main"] = {"train.parquet": _file([0, 1]), "test.parquet": _file([0, 1])}
    fetch = hub.snapshot_download

    def killed(*args: Any, **options: Any) -> str:
        folder = str(fetch(*args, **{**options, "allow_patterns": "train.parquet"}))
        if options.get("local_files_only"):
            return folder
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(hub, "snapshot_download", killed)
        with pytest.raises(KeyboardInterrupt):
            open_image_data("owner/pets")
    local_hub.down = True
    with pytest.raises(DataError, match=r"unfit: 1 of its 2 files are not there, first test\."):
        open_image_data("owner/pets")
    local_hub.down = False
    assert len(open_image_data("owner/pets").items) == 4


def test_a_hub_that_goes_away_in_between_is_told(
    local_hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client returns what is in the cache then, be it of another revision, or half of this."""
    old = _pets(local_hub)
    local_hub.branches["main"]["test.parquet"] = _file([1] * 4)
    fetch = hub.snapshot_download
    half = fetch("owner/pets", repo_type="dataset", allow_patterns="train.parquet")
    for folder, says in ((half, "1 of its 3 files are not there"), (old, "run it again")):
        monkeypatch.setattr(
            hub,
            "snapshot_download",
            lambda *args, folder=folder, **options: (
                fetch(*args, **options) if options.get("local_files_only") else folder
            ),
        )
        with pytest.raises(DataError, match=says):
            open_image_data("owner/pets")


def test_a_card_that_is_not_utf_8_is_said_to_be_so(local_hub: LocalHub) -> None:
    local_hub.branches["main"] = {"README.md": b"caf\xe9", "train.parquet": _file([0, 1])}
    with pytest.raises(DataError, match=r"^owner/pets: README\.md cannot be read as UTF-8"):
        open_image_data("owner/pets")


@pytest.mark.timeout(30)
def test_a_hub_that_does_not_answer_costs_five_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hub_cache._ANSWER_TIMEOUT_S + answering._GRACE_S <= 4
    with silent(monkeypatch, tmp_path):
        began = time.monotonic()
        with pytest.raises(DataError, match=r"cannot be reached .*class/xxx\.png.*'fashion-mnist'"):
            open_image_data("owner/pets")
        assert time.monotonic() - began < 10  # a second's margin fails on a busy machine
