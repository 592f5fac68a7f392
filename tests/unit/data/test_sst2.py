"""SST-2: no piece of a held-out sentence is trained on, and only the published files are read."""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest

from edgeml.data import sst2
from edgeml.data.dataset import TextDataset, make_text_split, text_findings
from edgeml.data.opening import open_text_data
from edgeml.data.sst2 import load_sst2, load_sst2_phrase_dev, load_sst2_phrases
from edgeml.errors import DataError

OWN = os.environ.get("EDGEML_DATA_DIR")
needs_files = pytest.mark.skipif(
    not OWN or not (Path(OWN) / "sst2_glue_phrases").is_dir(),
    reason="EDGEML_DATA_DIR does not name a folder with the published files",
)

SENTENCES = [
    ("a warm and well made film", 1),
    ("a dull film that goes nowhere", 0),
    ("the plot is thin and the jokes are old", 0),
    ("one long string of jokes", 0),
]
PHRASES = [
    ("A well-made film . ", 1),
    ("well-made ", 1),
    ("warm ", 1),
    ("film ", 1),
    ("goes nowhere ", 0),
    ("the plot is thin ", 0),
    ("the jokes are old ", 0),
    ("jokes ", 0),
    ("a warm and well-made film . ", 1),
    ("bad", 0),
    ("!", 1),
]
DEV = [("Bad !", 0), ("a treat", 1)]


def _lines(rows: list[tuple[str, int]], *, header: bool = False) -> bytes:
    lines = ["sentence\tlabel"] * header + [f"{text}\t{index}" for text, index in rows]
    return ("\n".join(lines) + "\n").encode()


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small set in the place of the published one; one sentence is held out."""
    contents = {
        "sst2/train.tsv": _lines(SENTENCES),
        "sst2/dev.tsv": _lines(DEV),
        "sst2_glue_phrases/train.tsv": _lines(PHRASES, header=True),
        "sst2_glue_phrases/dev.tsv": _lines(PHRASES[:3], header=True),
    }
    for name, data in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    monkeypatch.setattr(sst2, "_FILES", digests)
    monkeypatch.setattr(sst2, "_HELD_SENTENCES", 1)
    monkeypatch.setenv("EDGEML_DATA_DIR", str(tmp_path))
    return tmp_path


def _texts(dataset: TextDataset, rows: np.ndarray | None) -> set[str]:
    assert rows is not None
    return {dataset.items[row] for row in rows}


def _hold_out(monkeypatch: pytest.MonkeyPatch, sentence: str) -> None:
    """Set a seed that draws this sentence."""
    order = sorted(text for text, _ in SENTENCES)
    wanted = order.index(sentence)
    draws = ((seed, np.random.default_rng(seed).permutation(len(order))[0]) for seed in range(100))
    seed = next(seed for seed, drawn in draws if drawn == wanted)
    monkeypatch.setattr(sst2, "_HELD_SEED", seed)


@pytest.mark.usefixtures("files")
def test_a_held_out_sentence_takes_its_phrases_along(monkeypatch: pytest.MonkeyPatch) -> None:
    _hold_out(monkeypatch, "a warm and well made film")
    dataset = load_sst2_phrases()
    assert _texts(dataset, dataset.fixed_test) == {"Bad !", "a treat"}
    # "film" is in another sentence too; "bad" equals a test sentence.
    assert _texts(dataset, dataset.excluded) == {"film", "bad"}
    assert _texts(dataset, dataset.fixed_validation) == {
        "a warm and well made film",
        "a warm and well-made film .",
        "well-made",
        "warm",
    }
    assert dataset.source["left_out"] == "1 texts that equal a test sentence"


@pytest.mark.usefixtures("files")
def test_pieces_that_are_not_in_a_row_stay_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    _hold_out(monkeypatch, "the plot is thin and the jokes are old")
    dataset = load_sst2_phrases()
    assert _texts(dataset, dataset.fixed_validation) == {
        "the plot is thin and the jokes are old",
        "the plot is thin",
        "the jokes are old",
    }
    assert _texts(dataset, dataset.excluded) == {"jokes", "bad"}
    held = {*_texts(dataset, dataset.fixed_validation), *_texts(dataset, dataset.excluded)}
    assert "A well-made film ." in set(dataset.items) - held


@pytest.mark.usefixtures("files")
def test_equal_texts_are_there_once() -> None:
    dataset = load_sst2_phrases()
    assert len(dataset.items) == len(SENTENCES) + len(PHRASES) + len(DEV)
    again = load_sst2_phrases()
    assert again.fingerprint == dataset.fingerprint
    assert text_findings(dataset)["duplicates"] == 0


@pytest.mark.usefixtures("files")
def test_sentences_and_dev_phrases_stand_alone() -> None:
    dataset = load_sst2()
    assert (dataset.labels, len(dataset.items)) == (("negative", "positive"), 6)
    assert dataset.targets.tolist() == [1, 0, 0, 0, 0, 1]
    assert _texts(dataset, dataset.fixed_test) == {"Bad !", "a treat"}
    phrases = load_sst2_phrase_dev()
    assert list(phrases.items) == ["A well-made film .", "well-made", "warm"]
    assert phrases.fixed_test is None


def test_a_changed_or_missing_file_is_refused(files: Path) -> None:
    (files / "sst2/dev.tsv").write_bytes(_lines(DEV[:1]))
    with pytest.raises(DataError, match=r"sst2/dev\.tsv is not the published file; sha256"):
        load_sst2()
    (files / "sst2/dev.tsv").unlink()
    with pytest.raises(DataError, match=r"EDGEML_DATA_DIR has no sst2/dev\.tsv"):
        load_sst2()


def test_without_a_folder_the_ways_to_get_one_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEML_DATA_DIR", raising=False)
    with pytest.raises(DataError, match=r"EDGEML_DATA_DIR is not set.*set it, or use 'sst2-phr"):
        open_text_data("sst2")


class _Hub(types.ModuleType):
    """The hub's package: a cache that may hold the files, and a server that may answer."""

    def __init__(self, cached: Path | None, endpoint: str) -> None:
        super().__init__("huggingface_hub")
        self.cached = cached
        self.constants = types.SimpleNamespace(ENDPOINT=endpoint)
        self.asked: list[bool] = []

    def hf_hub_download(
        self,
        repo_id: str,
        filename: str,
        *,
        repo_type: str,
        local_files_only: bool = False,
        etag_timeout: float = 10,
    ) -> str:
        assert (repo_id, repo_type) == ("stanfordnlp/sst2", "dataset")
        self.asked.append(local_files_only)
        if self.cached is None:
            raise FileNotFoundError(filename)
        return str(self.cached / filename)


def test_the_hubs_files_are_found_in_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    arrow = importlib.import_module("pyarrow")
    parquet = importlib.import_module("pyarrow.parquet")
    (tmp_path / "data").mkdir()
    sizes = {}
    for name, rows in zip(sst2._HUB_FILES, ([*PHRASES, *SENTENCES[1:]], DEV), strict=True):
        texts, classes = zip(*rows, strict=True)
        table = arrow.table({"idx": range(len(rows)), "sentence": texts, "label": classes})
        parquet.write_table(table, tmp_path / name)
        sizes[name] = (classes.count(0), classes.count(1))
    hub = _Hub(tmp_path, "")
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.setattr(sst2, "_HUB_FILES", sizes)
    monkeypatch.setattr(sst2, "_HELD_SENTENCES", 1)
    monkeypatch.delenv("EDGEML_DATA_DIR", raising=False)
    _hold_out(monkeypatch, "a warm and well made film")
    found = sst2._longest(sst2._read_hub(next(iter(sizes))))
    assert {text for text, _ in SENTENCES[1:]} < set(found.texts)
    assert "a warm and well-made film ." in found.texts
    assert "warm" not in found.texts
    dataset = load_sst2_phrases()
    assert dataset.source["kind"] == "hub: stanfordnlp/sst2"
    assert set(hub.asked) == {True}
    monkeypatch.setattr(sst2, "_HUB_FILES", dict.fromkeys(sizes, (1, 2)))
    with pytest.raises(DataError, match="is not the published file"):
        load_sst2_phrases()


def test_a_hub_that_cannot_be_reached_is_an_error_within_five_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEML_DATA_DIR", str(tmp_path))
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    hub = _Hub(None, "http://127.0.0.1:9")  # nobody listens on the discard port
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    start = time.monotonic()
    with pytest.raises(DataError, match=r"the hub cannot be reached.*set \$EDGEML_DATA_DIR, or go"):
        load_sst2_phrases()
    assert time.monotonic() - start < 5
    assert hub.asked == [True]
    monkeypatch.setattr(sst2, "_answers", lambda url: True)
    with pytest.raises(DataError, match=r"the hub did not give data/train.*FileNotFoundError"):
        load_sst2_phrases()


def test_a_hub_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    released, ended = threading.Event(), threading.Event()

    def hang(*_: object, **__: object) -> None:
        released.wait(60)
        ended.set()
        raise TimeoutError

    monkeypatch.setattr(sst2, "_CONNECT_TIMEOUT_S", 0.1)
    monkeypatch.setattr(sst2.urllib.request, "urlopen", hang)
    assert not sst2._answers("http://127.0.0.1:9")
    released.set()
    assert ended.wait(10)


def test_without_the_hubs_package_the_alternatives_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("EDGEML_DATA_DIR", raising=False)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DataError, match=r"huggingface_hub is not installed.*EDGEML_DATA_DIR"):
        load_sst2_phrases()


@needs_files
def test_the_published_files_are_the_published_set() -> None:
    sentences = load_sst2()
    assert np.bincount(sentences.targets[:6920]).tolist() == [3310, 3610]
    assert np.bincount(sentences.targets[6920:]).tolist() == [428, 444]
    assert make_text_split(sentences, seed=0).sizes()["test"] == 872
    assert len(load_sst2_phrase_dev().items) == 6735


@needs_files
def test_nothing_of_a_validation_sentence_is_trained_on() -> None:
    dataset = load_sst2_phrases()
    split = make_text_split(dataset, seed=0)
    assert split.sizes()["test"] == 872
    trained = {sst2._key(dataset.items[row]) for row in split.train}
    held = {sst2._key(dataset.items[row]) for row in split.validation}
    assert not trained & {part for key in held for part in sst2._parts(key)}
    assert not trained & {sst2._key(dataset.items[row]) for row in split.test}
    assert len(split.train) > 60_000
