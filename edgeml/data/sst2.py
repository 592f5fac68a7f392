"""SST-2: sentences and phrases of film reviews, from verified files or from the hub.

Phrases are parts of sentences, so a split by rows would train on pieces of what it validates on.
The parts are therefore made here, by sentence.
"""

from __future__ import annotations

import importlib
import os
import re
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.core.files import sha256_of
from edgeml.data.dataset import TextDataset, normalised, text_fingerprint
from edgeml.data.tables import read_table
from edgeml.errors import DataError

LABELS = ("negative", "positive")

_SENTENCES = "sst2"
_PHRASES = "sst2_glue_phrases"
_FILES = {
    f"{_SENTENCES}/train.tsv": "ec192f833a64da08f475488a77b0d0b47db47acd0f458bd18433fc793b569920",
    f"{_SENTENCES}/dev.tsv": "eddea6b39e601dd4e7a672b53cc40fdf6019fa80522f351206c24340ca5d9359",
    f"{_PHRASES}/train.tsv": "920e317b2c52e12cd22db1da2c6708312bd7dc4f3712b9bbf1b50ee6c2c792ba",
    f"{_PHRASES}/dev.tsv": "92353770071a2a889f75d000a38a9e541ea8f0a5499e50f040b17917a5cbf66f",
}
_VERIFIED = "files verified by sha256"
_HUB_NAME = "stanfordnlp/sst2"
# Rows of each class: what the published set has, whatever the file is called.
_HUB_FILES = {
    "data/train-00000-of-00001.parquet": (29_780, 37_569),
    "data/validation-00000-of-00001.parquet": (428, 444),
}
_CONNECT_TIMEOUT_S = 4
_HELD_SENTENCES = 500
_HELD_SEED = 2013
_SHORT_TOKENS = 2

# The two releases write the same sentence differently (hyphens, accents, brackets): compared are
# runs of letters and digits, which both kept.
_TOKEN = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True, kw_only=True)
class _Rows:
    texts: list[str]
    classes: list[int]


def load_sst2() -> TextDataset:
    """Load the 6,920 training sentences and the 872 dev sentences, which are the test part.

    Raises:
        DataError: ``$EDGEML_DATA_DIR/sst2`` is missing, or a file is not the published one.
    """
    train, dev = (_read(f"{_SENTENCES}/{part}.tsv") for part in ("train", "dev"))
    return _dataset("sst2", train, dev, origin=_VERIFIED)


def load_sst2_phrases() -> TextDataset:
    """Load phrases and sentences to train on, held-out sentences with their phrases, and dev.

    Validation is 500 training sentences and each phrase that is part of one; a phrase of one or two
    tokens that other sentences have too is excluded instead, as is what equals a dev sentence. The
    872 dev sentences are the test part. Without ``$EDGEML_DATA_DIR`` the hub's files are used,
    where sentences are the phrases that are part of no other.

    Raises:
        DataError: No source can be reached, or a file is not the published one.
        MissingExtraError: The hub's files are there, and pyarrow is not installed.
    """
    root = _root()
    if root is not None and all((root / name).is_dir() for name in (_SENTENCES, _PHRASES)):
        phrases, dev = _read(f"{_PHRASES}/train.tsv"), _read(f"{_SENTENCES}/dev.tsv")
        sentences = _read(f"{_SENTENCES}/train.tsv")
        return _with_phrases(sentences, phrases, dev, origin=_VERIFIED)
    phrases, dev = (_read_hub(name) for name in _HUB_FILES)
    return _with_phrases(_longest(phrases), phrases, dev, origin=f"hub: {_HUB_NAME}")


def load_sst2_phrase_dev() -> TextDataset:
    """Load the 6,735 dev phrases, to report on; they are parts of the training sentences.

    Raises:
        DataError: ``$EDGEML_DATA_DIR/sst2_glue_phrases`` is missing, or its file is not the
            published one.
    """
    rows = _read(f"{_PHRASES}/dev.tsv")
    return _dataset("sst2-phrase-dev", rows, _Rows(texts=[], classes=[]), origin=_VERIFIED)


def _with_phrases(sentences: _Rows, phrases: _Rows, dev: _Rows, *, origin: str) -> TextDataset:
    distinct: dict[str, tuple[str, int]] = {}
    for rows in (sentences, phrases):
        for text, index in zip(rows.texts, rows.classes, strict=True):
            distinct.setdefault(normalised(text), (text, index))
    texts, classes = zip(*distinct.values(), strict=True)
    order = sorted({_key(text) for text in sentences.texts})
    chosen = np.random.default_rng(_HELD_SEED).permutation(len(order))[:_HELD_SENTENCES]
    held_sentences = {order[index] for index in chosen}
    inside = {part for sentence in held_sentences for part in _parts(sentence)}
    others = (key for key in order if key not in held_sentences)
    elsewhere = {part for key in others for part in _parts(key, longest=_SHORT_TOKENS)}
    pool = _Rows(texts=list(texts), classes=list(classes))
    return _dataset(
        "sst2-phrases",
        pool,
        dev,
        origin=origin,
        held=inside - elsewhere,
        dropped=inside & elsewhere,
    )


def _dataset(
    name: str,
    pool: _Rows,
    dev: _Rows,
    *,
    origin: str,
    held: Set[str] = frozenset(),
    dropped: Set[str] = frozenset(),
) -> TextDataset:
    """Join the rows; ``held`` and ``dropped`` are the keys of what is not trained on."""
    texts = [*pool.texts, *dev.texts]
    targets = np.array([*pool.classes, *dev.classes], dtype=np.int64)
    keys = [_key(text) for text in pool.texts]
    known = {_key(text) for text in dev.texts}
    equal = sum(key in known for key in keys)
    return TextDataset(
        name=name,
        labels=LABELS,
        items=texts,
        targets=targets,
        fingerprint=text_fingerprint(texts, LABELS, targets),
        source={
            "kind": origin,
            "licence": "none stated",
            "left_out": f"{equal} texts that equal a test sentence",
        },
        fixed_test=np.arange(len(pool.texts), len(texts)) if dev.texts else None,
        fixed_validation=_where([key in held and key not in known for key in keys]),
        excluded=_where([key in dropped or key in known for key in keys]),
    )


def _where(chosen: list[bool]) -> npt.NDArray[np.int64] | None:
    return np.flatnonzero(np.array(chosen)) if any(chosen) else None


def _key(text: str) -> str:
    """Return the tokens of a text, by which the releases agree; of a text without any, itself."""
    return " ".join(_TOKEN.findall(normalised(text))) or normalised(text)


def _parts(key: str, *, longest: int | None = None) -> set[str]:
    """Return each run of tokens of a text, of at most ``longest`` of them."""
    tokens = key.split(" ")
    most = longest or len(tokens)
    return {
        " ".join(tokens[start:end])
        for start in range(len(tokens))
        for end in range(start + 1, min(start + most, len(tokens)) + 1)
    }


def _longest(phrases: _Rows) -> _Rows:
    """Return the phrases that are part of no other: the sentences."""
    rows = list(zip(phrases.texts, phrases.classes, strict=True))
    seen: set[str] = set()
    found = []
    for text, index in sorted(rows, key=lambda row: -len(_key(row[0]).split(" "))):
        key = _key(text)
        if key not in seen:
            seen |= _parts(key)
            found.append((text, index))
    return _Rows(texts=[text for text, _ in found], classes=[index for _, index in found])


def _root() -> Path | None:
    own = os.environ.get("EDGEML_DATA_DIR")
    return Path(own) if own else None


def _read(name: str) -> _Rows:
    """Read a published file: text, tab, class."""
    root = _root()
    path = (root or Path()) / name
    if root is None or not path.is_file():
        state = f"has no {name}" if root else "is not set"
        reason = (
            f"$EDGEML_DATA_DIR {state}; a folder with the published files in {_SENTENCES} and "
            f"{_PHRASES} was expected; set it, or use 'sst2-phrases' where the hub's {_HUB_NAME} "
            "can be reached"
        )
        raise DataError(source="sst2", reason=reason)
    if sha256_of(path) != _FILES[name]:
        reason = (
            f"{name} is not the published file; sha256 {_FILES[name][:12]}… was expected; fetch "
            "the file again"
        )
        raise DataError(source="sst2", reason=reason)
    lines = path.read_text(encoding="utf-8").removeprefix("sentence\tlabel\n").split("\n")
    rows = [line.rsplit("\t", 1) for line in lines if line]
    return _Rows(texts=[text.strip() for text, _ in rows], classes=[int(one) for _, one in rows])


def _read_hub(name: str) -> _Rows:
    """Read one of the hub's files, from its local cache if it is there."""
    table = read_table(_fetch(name))
    classes = [int(value or -1) for value in table.columns.get("label", [])]
    texts = [(value or "").strip() for value in table.columns.get("sentence", [])]
    got = tuple(classes.count(index) for index in range(len(LABELS)))
    if got != _HUB_FILES[name] or len(texts) != len(classes) or len(classes) != sum(got):
        reason = (
            f"the hub's {name} is not the published file: {_HUB_FILES[name]} rows of the classes "
            f"{LABELS} were expected, {got} are there; remove it from the hub's cache and try again"
        )
        raise DataError(source=_HUB_NAME, reason=reason)
    return _Rows(texts=texts, classes=classes)


def _fetch(name: str) -> Path:
    try:
        hub: Any = importlib.import_module("huggingface_hub")
    except ModuleNotFoundError as exc:
        raise _unreachable("the package huggingface_hub is not installed") from exc
    try:
        return Path(
            hub.hf_hub_download(_HUB_NAME, name, repo_type="dataset", local_files_only=True)
        )
    except (OSError, ValueError):
        pass  # not in the local cache
    if not _answers(hub.constants.ENDPOINT):  # the hub's own client tries for half a minute
        raise _unreachable("the hub cannot be reached")
    try:
        place = hub.hf_hub_download(
            _HUB_NAME, name, repo_type="dataset", etag_timeout=_CONNECT_TIMEOUT_S
        )
    except Exception as exc:  # its HTTP library's errors differ by its version
        raise _unreachable(f"the hub did not give {name} ({type(exc).__name__})") from exc
    return Path(place)


def _answers(url: str) -> bool:
    """Return whether a server answers in time, whatever it says; the name's look-up counts too."""
    answered: list[bool] = []

    def ask() -> None:
        request = urllib.request.Request(url, method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=_CONNECT_TIMEOUT_S).close()
        except urllib.error.HTTPError as exc:
            exc.close()
        except urllib.error.URLError as exc:
            if not isinstance(exc.reason, ssl.SSLError):  # the hub's client has its own trust
                return
        except (OSError, ValueError):
            return
        answered.append(True)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_CONNECT_TIMEOUT_S)
    return bool(answered)


def _unreachable(why: str) -> DataError:
    reason = (
        f"$EDGEML_DATA_DIR has no {_SENTENCES} and {_PHRASES}, and {why}; one source was expected; "
        f"set $EDGEML_DATA_DIR, or go where the hub's {_HUB_NAME} can be reached"
    )
    return DataError(source="sst2-phrases", reason=reason)
