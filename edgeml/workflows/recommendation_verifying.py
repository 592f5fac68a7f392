"""Golden requests of a recommendation bundle: the feeds that they become, and the answers."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.core.bundle import Bundle, Check, Golden, write_golden
from edgeml.core.files import write_json
from edgeml.errors import EdgemlError, IntegrityError
from edgeml.recommending.pipeline import Pipeline, Request
from edgeml.workflows.recommendation_loading import open_recommender

REQUESTS = "golden/requests.json"
NUM_REQUESTS = 4
_TOP = 10
# INT8 sums differ between instruction sets: what was best must still be near the top.
_SAME_SHARE = {"fp32": 0.9, "int8": 0.7}
_TOLERANCE = {"fp32": 1e-3, "int8": 0.05}


def write_golden_requests(folder: Path, bundle: Bundle, users: Sequence[str]) -> None:
    """Write golden requests into a staged bundle: a feed, its scores, and recommended lists.

    Args:
        folder: The staged bundle.
        bundle: The same, readable but for the golden files.
        users: Ids of users to ask for.
    """
    lists: dict[str, list[list[str]]] = {}
    outputs: dict[str, Mapping[str, npt.NDArray[Any]]] = {}
    tensors: Mapping[str, npt.NDArray[Any]] = {}
    for row in bundle.manifest.variants:
        with open_recommender(bundle, variant=row.name) as recommender:
            lists[row.name] = [
                [found.item for found in recommender.recommend(user, _TOP)] for user in users
            ]
            tensors = feed_of(recommender.pipeline, recommender.catalogue.as_of_ms)
            outputs[row.name] = {"scores": _score(recommender.pipeline, tensors)}
    tolerance = {name: _TOLERANCE.get(name, 0.05) for name in outputs}
    write_golden(folder, Golden(inputs=(), tensors=tensors, outputs=outputs, tolerance=tolerance))
    write_json(folder / REQUESTS, {"users": list(users), "items": lists})


def golden_checks(bundle: Bundle) -> list[Check]:
    """Replay the golden requests on every variant."""
    checks = []
    for row in bundle.manifest.variants:
        name = f"golden {row.name}"
        try:
            with contextlib.closing(open_recommender(bundle, variant=row.name)) as recommender:
                checks.append(_feed_check(bundle, recommender.pipeline, recommender.catalogue))
                checks.append(_scores_check(bundle, row.name, recommender.pipeline))
                checks.append(_lists_check(bundle, row.name, recommender))
        except EdgemlError as exc:
            checks.append(Check(name=name, ok=False, detail=str(exc)))
    return checks


def require_golden(bundle: Bundle, recommender: Any, variant: str) -> None:
    """Replay the golden requests on an open recommender.

    Raises:
        IntegrityError: Features, scores or lists are not those of the export.
    """
    checks = (
        _feed_check(bundle, recommender.pipeline, recommender.catalogue),
        _scores_check(bundle, variant, recommender.pipeline),
        _lists_check(bundle, variant, recommender),
    )
    for check in checks:
        if not check.ok:
            raise IntegrityError(path=str(bundle.path), reason=f"{check.name}: {check.detail}")


def feed_of(pipeline: Pipeline, at_ms: int) -> dict[str, npt.NDArray[Any]]:
    """Return the ranker's feed for the first known user and the first items of the catalogue."""
    count = min(50, len(pipeline.features.items.ids) - 1)
    empty = np.zeros(0, dtype=np.int64)
    items = np.arange(1, count + 1, dtype=np.int64)
    request = Request(user=1, history=empty, seen=empty, at_ms=at_ms)
    arrays = pipeline.feed(request, items, np.linspace(1, 0, count, dtype=np.float32))
    names = ("request_ids", "request_numbers", "candidate_ids", "candidate_numbers")
    return dict(zip(names, arrays, strict=True))


def _score(pipeline: Pipeline, tensors: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    assert pipeline.ranker is not None
    return pipeline.ranker.score(**tensors)


def _feed_check(bundle: Bundle, pipeline: Pipeline, catalogue: Any) -> Check:
    stored = bundle.golden().tensors
    found = feed_of(pipeline, catalogue.as_of_ms)
    same = set(stored) == set(found) and all(
        np.array_equal(found[name], stored[name]) for name in stored
    )
    detail = "equal to the bit" if same else "a request becomes other tensors than at export"
    return Check(name="golden features", ok=same, detail=detail)


def _scores_check(bundle: Bundle, variant: str, pipeline: Pipeline) -> Check:
    golden = bundle.golden()
    expected = golden.outputs.get(variant, {}).get("scores")
    if expected is None:
        return Check(name=f"golden {variant}", ok=False, detail="no golden outputs were stored")
    worst = float(np.abs(_score(pipeline, golden.tensors) - expected).max(initial=0))
    allowed = golden.tolerance[variant]
    detail = f"largest difference {worst:.2g} of {allowed:.2g} allowed"
    return Check(name=f"golden {variant}", ok=worst <= allowed, detail=detail)


def _lists_check(bundle: Bundle, variant: str, recommender: Any) -> Check:
    stored = bundle.read_json(REQUESTS)
    shares = []
    for user, expected in zip(stored["users"], stored["items"][variant], strict=True):
        found = {row.item for row in recommender.recommend(user, _TOP)}
        shares.append(len(found & set(expected)) / max(len(expected), 1))
    share = min(shares, default=1.0)
    needed = _SAME_SHARE.get(variant, 0.7)
    return Check(
        name=f"golden lists {variant}",
        ok=share >= needed,
        detail=f"at least {share:.0%} of each stored list is recommended; {needed:.0%} is needed",
    )
