"""What a recommender is made of besides its ranker, in a checkpoint and in a bundle alike.

Everything carries one version: the hash of the encoders, ids and vectors. A part of another version
is refused when it is read, besides the hashes of the files in the manifest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.core.archives import read_archive, write_archive
from edgeml.core.files import write_json
from edgeml.errors import BundleError, EdgemlError, IntegrityError
from edgeml.recommending.index.retriever import Retriever
from edgeml.recommending.pipeline import Pipeline, Policy, RankingModel
from edgeml.recommending.recommender import Catalogue
from edgeml.recommending.retrieval.biased import Biased
from edgeml.recommending.retrieval.item_item import Popularity
from edgeml.recommending.retrieval.storing import load_model, save_model
from edgeml.tasks.recommendation.features import RankingFeatures
from edgeml.tasks.recommendation.interactions import Interactions
from edgeml.tasks.recommendation.tables import EncodedTable, FeatureEncoder
from edgeml.workflows.recommendation_parts import histories_of

FOLDER = "recommendation"
_JSON = ("description.json", "ids.json")
_ARCHIVES = ("tables.npz", "events.npz", "items.npz", "model.npz", "popularity.npz")
_INDEX = ("index/index.json", "index/index.npz")
FILES = tuple(f"{FOLDER}/{name}" for name in (*_JSON, *_ARCHIVES, *_INDEX))
_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Parts:
    """A recommender's parts.

    Attributes:
        features: Encoders and tables.
        events: What is known when requests are answered.
        user_ids: Text by user code.
        item_ids: Text by item code.
        served: Retrieval's vectors.
        likeness: float32 ``(items, d)``: items by who wanted them.
        popularity: For users without a history.
        policy: How the stages work together.
        source: Name and hash of the data, and what was chosen, for reading.
    """

    features: RankingFeatures
    events: Interactions
    user_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    served: Biased
    likeness: npt.NDArray[np.float32]
    popularity: Popularity
    policy: Policy
    source: Mapping[str, Any]

    def version(self) -> str:
        """Return the hash of everything that vectors, codes and features depend on."""
        digest = hashlib.sha256(
            json.dumps([self.user_ids, self.item_ids, _encoders(self.features)]).encode()
        )
        for table in (self.served.item_vectors, self.likeness, *_tables(self.features).values()):
            digest.update(np.ascontiguousarray(table).tobytes())
        return digest.hexdigest()[:16]

    def catalogue(self) -> Catalogue:
        """Return ids and histories."""
        liked = histories_of(
            self.events, num_users=len(self.user_ids), num_items=len(self.item_ids)
        )
        return Catalogue(
            user_ids=self.user_ids,
            item_ids=self.item_ids,
            liked_offsets=liked.offsets,
            liked_items=liked.items,
            vectors=self.likeness,
            as_of_ms=int(self.events.times_ms.max()) + 1,
        )

    def pipeline(self, retriever: Retriever, ranker: RankingModel | None) -> Pipeline:
        """Put the stages together."""
        return Pipeline(
            source=retriever,
            popular=self.popularity,
            features=self.features,
            known=self.features.index(self.events),
            ranker=ranker,
            policy=self.policy,
        )


def write_parts(folder: Path, parts: Parts) -> str:
    """Write a recommender's parts below ``folder`` and return their version.

    Args:
        folder: A staged checkpoint or bundle.
        parts: What to write.
    """
    place, version = folder / FOLDER, parts.version()
    (place / "index").mkdir(parents=True)
    description = {
        "format": _FORMAT,
        "version": version,
        "policy": asdict(parts.policy),
        **_encoders(parts.features),
        "source": dict(parts.source),
    }
    write_json(place / "description.json", description)
    ids = {"version": version, "users": list(parts.user_ids), "items": list(parts.item_ids)}
    write_json(place / "ids.json", ids)
    (place / "tables.npz").write_bytes(write_archive(_tables(parts.features)))
    events = parts.events
    columns: dict[str, npt.NDArray[Any]] = {
        "users": events.users,
        "items": events.items,
        "times_ms": events.times_ms,
        "positive": events.positive,
    }
    columns |= {f"signal:{name}": values for name, values in events.signals.items()}
    (place / "events.npz").write_bytes(write_archive(columns))
    (place / "items.npz").write_bytes(
        write_archive({"bias": parts.served.bias, "likeness": parts.likeness})
    )
    save_model(parts.served.inner, place / "model.npz")
    save_model(parts.popularity, place / "popularity.npz")
    Retriever.build(parts.served, version=version).save(place / "index")
    return version


def read_parts(opened: Callable[[str], Path], *, path: str) -> tuple[Parts, str]:
    """Read what :func:`write_parts` wrote.

    Args:
        opened: Returns the place of a file by its name, after checking its hash.
        path: The checkpoint or bundle, for messages.

    Returns:
        The parts and their version.

    Raises:
        BundleError: A file is missing or malformed, or of another format.
        IntegrityError: A part is of another version.
    """
    try:
        files = {name: opened(f"{FOLDER}/{name}") for name in (*_JSON, *_ARCHIVES)}
        value = json.loads(files["description.json"].read_bytes())
        if value["format"] != _FORMAT:
            reason = f"its parts have format {value['format']}; {_FORMAT} is read; export it again"
            raise BundleError(path=path, reason=reason)
        ids = json.loads(files["ids.json"].read_bytes())
        items = read_archive(files["items.npz"])
        parts = Parts(
            features=_features(value, read_archive(files["tables.npz"])),
            events=_events(read_archive(files["events.npz"])),
            user_ids=tuple(ids["users"]),
            item_ids=tuple(ids["items"]),
            served=Biased(load_model(files["model.npz"]), items["bias"]),  # type: ignore[arg-type]
            likeness=items["likeness"],
            popularity=load_model(files["popularity.npz"]),  # type: ignore[arg-type]
            policy=Policy(**value["policy"]),
            source=value["source"],
        )
        version = str(value["version"])
    except EdgemlError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as exc:
        reason = f"its parts cannot be read ({type(exc).__name__}: {exc}); make it again"
        raise BundleError(path=path, reason=reason) from exc
    found = parts.version()
    if found != version or ids["version"] != version:
        reason = (
            f"its parts are of version {found} and it says {version}: encoders, ids and vectors of "
            "one export were expected; copy or export it again"
        )
        raise IntegrityError(path=path, reason=reason)
    return parts, version


def open_retriever(parts: Parts, folder: Path, *, version: str) -> Retriever:
    """Open the index and join it with its model.

    Raises:
        IntegrityError: The index is of another version.
        BundleError: It cannot be read.
    """
    return Retriever.load(parts.served, folder, version=version)


def _encoders(features: RankingFeatures) -> dict[str, Any]:
    """Return a ranker's features without their tables, as JSON values."""
    return {
        "users": [row.to_json() for row in features.users.encoders],
        "items": [row.to_json() for row in features.items.encoders],
        "context": [row.to_json() for row in features.context],
        "groups": list(features.groups),
        "signals": [list(row) for row in features.signals],
        "means": [float(mean) for mean in features.means],
        "timezone_hours": features.timezone_hours,
        "with_retrieval": features.with_retrieval,
    }


def _tables(features: RankingFeatures) -> dict[str, npt.NDArray[Any]]:
    return {
        "user_ids": features.users.ids,
        "user_numbers": features.users.numbers,
        "item_ids": features.items.ids,
        "item_numbers": features.items.numbers,
        "item_codes": features.item_codes,
    }


def _features(value: Mapping[str, Any], tables: Mapping[str, npt.NDArray[Any]]) -> RankingFeatures:
    def encoders(side: str) -> tuple[FeatureEncoder, ...]:
        return tuple(FeatureEncoder.from_json(row) for row in value[side])

    def table(side: str) -> EncodedTable:
        return EncodedTable(
            encoders=encoders(f"{side}s"),
            ids=tables[f"{side}_ids"],
            numbers=tables[f"{side}_numbers"],
        )

    return RankingFeatures(
        users=table("user"),
        items=table("item"),
        context=encoders("context"),
        groups=tuple(value["groups"]),
        signals=tuple((name, kind) for name, kind in value["signals"]),
        means=np.asarray(value["means"], dtype=np.float64),
        item_codes=tables["item_codes"],
        timezone_hours=float(value["timezone_hours"]),
        with_retrieval=bool(value["with_retrieval"]),
    )


def _events(columns: Mapping[str, npt.NDArray[Any]]) -> Interactions:
    return Interactions(
        users=columns["users"],
        items=columns["items"],
        times_ms=columns["times_ms"],
        positive=columns["positive"],
        signals={
            name.removeprefix("signal:"): values
            for name, values in columns.items()
            if name.startswith("signal:")
        },
    )
