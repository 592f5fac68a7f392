"""MovieLens-100k as RecBole's package carries it: found, verified by hash, never imported."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from edgeml.core.files import sha256_of
from edgeml.data.interactions.log import InteractionLog, read_log
from edgeml.data.interactions.schema import Column, Schema, SideTable
from edgeml.errors import DataError

NAME = "movielens-100k"
_FILES = {
    "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
    "ml-100k.user": "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
}


def load_movielens() -> InteractionLog:
    """Load 100,000 ratings, each of them positive, with features of users and films.

    Raises:
        DataError: The package is not installed, or a file is not the published one.
    """
    folder = _folder()
    for name, expected in _FILES.items():
        path = folder / name
        if not path.is_file() or sha256_of(path) != expected:
            reason = f"'{name}' is missing or not the published file; install recbole==1.2.1 again"
            raise DataError(source=NAME, reason=reason)
    schema = Schema(
        columns=(
            Column(column="user_id", role="user", name="user_id"),
            Column(column="item_id", role="item", name="item_id"),
            Column(column="timestamp", role="time", name="timestamp", unit="s"),
        ),
        users=SideTable(
            file=str(folder / "ml-100k.user"),
            key="user_id",
            columns=(
                Column(column="age", role="user feature", name="age", kind="number"),
                Column(column="gender", role="user feature", name="gender", kind="category"),
                Column(
                    column="occupation", role="user feature", name="occupation", kind="category"
                ),
            ),
        ),
        items=SideTable(
            file=str(folder / "ml-100k.item"),
            key="item_id",
            columns=(
                Column(column="class", role="item feature", name="genres", kind="category"),
                Column(
                    column="release_year", role="item feature", name="release_year", kind="category"
                ),
            ),
        ),
    )
    source = {"package": "recbole", "files": dict(_FILES), "verified": "sha256"}
    return read_log([folder / "ml-100k.inter"], schema, name=NAME, source=source)


def _folder() -> Path:
    found = find_spec("recbole")
    if found is None or not found.submodule_search_locations:
        reason = (
            "the package that carries it is not installed; run: pip install --no-deps "
            "recbole==1.2.1, or give a log of your own with a schema"
        )
        raise DataError(source=NAME, reason=reason)
    return Path(next(iter(found.submodule_search_locations))) / "dataset_example/ml-100k"
