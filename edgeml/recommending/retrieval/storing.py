"""A retrieval model as one ``.npz`` file of plain arrays; pickle is neither written nor read."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeml.errors import BundleError
from edgeml.recommending.retrieval.embeddings import BprModel, Layer, TwoTowerModel
from edgeml.recommending.retrieval.item_item import Ease, ItemKnn, LinearFactors, Popularity
from edgeml.recommending.retrieval.model import RetrievalModel

Arrays = Mapping[str, Any]


def _two_tower_arrays(model: TwoTowerModel) -> dict[str, Any]:
    arrays = {name: getattr(model, name) for name in _TWO_TOWER_TABLES}
    for tower, layers in (("user", model.user_layers), ("item", model.item_layers)):
        for number, layer in enumerate(layers):
            arrays[f"{tower}_{number}_weight"] = layer.weight
            arrays[f"{tower}_{number}_bias"] = layer.bias
    return arrays


def _two_tower(arrays: Arrays) -> TwoTowerModel:
    def layers(tower: str) -> tuple[Layer, Layer]:
        first, last = (
            Layer(weight=arrays[f"{tower}_{n}_weight"], bias=arrays[f"{tower}_{n}_bias"])
            for n in range(2)
        )
        return first, last

    tables = {name: arrays[name] for name in _TWO_TOWER_TABLES}
    return TwoTowerModel(**tables, user_layers=layers("user"), item_layers=layers("item"))


_TWO_TOWER_TABLES = ("user_table", "event_table", "user_features", "item_vectors", "unknown_item")
_FIELDS: dict[str, tuple[str, ...]] = {
    "popularity": ("counts",),
    "item_knn": ("weights",),
    "ease": ("weights", "precision"),
    "linear_factors": ("fold_in", "item_vectors"),
    "bpr": ("user_table", "item_vectors", "known"),
}
_BUILDERS: dict[str, Callable[..., RetrievalModel]] = {
    "popularity": Popularity,
    "item_knn": ItemKnn,
    "ease": Ease,
    "linear_factors": LinearFactors,
    "bpr": BprModel,
}


def save_model(model: RetrievalModel, path: Path) -> None:
    """Write a retrieval model.

    Args:
        model: One of this package's models.
        path: The file, ending in ``.npz``.
    """
    if isinstance(model, TwoTowerModel):
        arrays = _two_tower_arrays(model)
    else:
        arrays = {name: getattr(model, name) for name in _FIELDS[model.kind]}
    if isinstance(model, BprModel):
        arrays["folding"] = np.array([model.unseen_weight, model.l2])
    with path.open("wb") as file:
        np.savez(file, kind=np.array(model.kind), **arrays)


def load_model(path: Path) -> RetrievalModel:
    """Read what ``save_model`` wrote.

    Raises:
        BundleError: The file is missing, damaged, of another kind, or holds NaN.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        kind = str(arrays.pop("kind"))
        if kind == "two_tower":
            model: RetrievalModel = _two_tower(arrays)
        elif kind == "bpr":
            unseen_weight, l2 = arrays.pop("folding").tolist()
            model = BprModel(**arrays, unseen_weight=unseen_weight, l2=l2)
        else:
            model = _BUILDERS[kind](**{name: arrays[name] for name in _FIELDS[kind]})
    except (OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile) as exc:
        raise BundleError(
            path=str(path),
            reason=f"no retrieval model can be read from it ({exc}); a file written by "
            "save_model was expected; export the bundle again",
        ) from exc
    for name, values in arrays.items():
        if not np.isfinite(values).all():
            raise BundleError(path=str(path), reason=f"'{name}' holds NaN or infinity; train again")
    return model
