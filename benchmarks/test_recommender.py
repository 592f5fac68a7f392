"""Where a recommender's milliseconds go: each stage, fp32 beside INT8, one thread, in turns.

A bundle whose policy gives the ranker no share answers without it: ``ranking_weight`` says so.

Takes the bundle of ``python -m export video`` where it is, KuaiRand's first. Elsewhere a small
model is trained on a seeded log, and its rows say so: their speed is that of this small model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeml
from edgeml.core.timing import TimingPlan, compare_latency
from edgeml.recommending.pipeline import Request
from edgeml.recommending.reranking import rerank_by_determinant, rerank_by_margin

_PLAN = TimingPlan(rounds=30, calls=5, budget_s=15.0)
_ARTIFACTS = Path(__file__).parents[1] / "artifacts" / "video"
_BUNDLES = ("bundle-kuairand-pure", "bundle")
_COUNTS = (100, 500)
_SHOWN = 20
_SCHEMA = """
columns:
  user: user
  item: item
  time: {role: time, unit: s}
  tab: context
  long_view: signal
  watch_s: {role: signal, kind: amount, name: watch_time}
items: {file: items.csv, key: item, columns: {author: category, minutes: number}}
positive: long_view
"""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """One bundle's ranker in both precisions, and what its rows are labelled with."""

    model: str
    variants: dict[str, edgeml.Recommender]
    request: Request

    def feed(self, count: int) -> dict[str, Any]:
        """Return the ranker's inputs for ``count`` candidates of retrieval, repeated if fewer."""
        pipeline = self.variants["fp32"].pipeline
        items, scores, _ = pipeline.retrieve(self.request, count)
        places = np.arange(count) % len(items)
        names = ("request_ids", "request_numbers", "candidate_ids", "candidate_numbers")
        found = pipeline.feed(self.request, items[places], scores[places])
        return dict(zip(names, found, strict=True))


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """Open the recipe's bundle, or train a small model."""
    bundle = next((_ARTIFACTS / name for name in _BUNDLES if (_ARTIFACTS / name).is_dir()), None)
    model = f"artifacts/video/{bundle.name}" if bundle else "small seeded model"
    bundle = bundle or _small(tmp_path_factory.mktemp("recommender"))
    variants = {
        name: edgeml.load_recommender(bundle, variant=name, num_threads=1)
        for name in ("fp32", "int8")
    }
    catalogue = variants["fp32"].catalogue
    counts = np.diff(catalogue.liked_offsets)
    user = int(np.argsort(counts)[len(counts) // 2 :][0])
    yield Opened(
        model=model,
        variants=variants,
        request=Request(
            user=user,
            history=catalogue.liked(user),
            seen=catalogue.liked(user),
            at_ms=catalogue.as_of_ms,
        ),
    )
    for recommender in variants.values():
        recommender.close()


@pytest.mark.parametrize("count", _COUNTS)
@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_ranker(benchmark, opened: Opened, variant: str, count: int) -> None:
    """Time one request's candidates through the ranker, its checks included."""
    feed = opened.feed(count)
    calls = {
        name: (lambda ranker=row.pipeline.ranker: ranker.score(**feed))
        for name, row in opened.variants.items()
    }
    scores = _row(benchmark, opened, f"ranker {variant}, {count} candidates", calls, variant)
    wanted = calls["fp32"]()
    assert scores.shape == (count,)
    assert np.corrcoef(scores, wanted)[0, 1] > 0.95


def test_retrieval(benchmark, opened: Opened) -> None:
    """Time the search for 500 candidates."""
    pipeline = opened.variants["fp32"].pipeline
    calls = {"retrieval": lambda: pipeline.retrieve(opened.request, 500)}
    items, _, _ = _row(benchmark, opened, "retrieval of 500", calls, "retrieval")
    assert len(items)


@pytest.mark.parametrize("count", _COUNTS)
def test_feature_assembly(benchmark, opened: Opened, count: int) -> None:
    """Time the ranker's inputs: the request's part once, a row a candidate."""
    pipeline = opened.variants["fp32"].pipeline
    items, scores, _ = pipeline.retrieve(opened.request, count)
    places = np.arange(count) % len(items)
    calls = {"assembly": lambda: pipeline.feed(opened.request, items[places], scores[places])}
    found = _row(benchmark, opened, f"feature assembly, {count} candidates", calls, "assembly")
    assert len(found[2]) == count


@pytest.mark.parametrize("way", ["margin", "determinant"])
def test_reranking(benchmark, opened: Opened, way: str) -> None:
    """Time 20 diverse picks out of 100."""
    rng = np.random.default_rng(0)
    scores = rng.random(100)
    vectors = opened.variants["fp32"].catalogue.vectors
    near = vectors[rng.integers(0, len(vectors), 100)]
    calls = {
        "margin": lambda: rerank_by_margin(scores, near, k=_SHOWN, weight=0.8),
        "determinant": lambda: rerank_by_determinant(scores, near, k=_SHOWN, weight=0.8),
    }
    picked = _row(benchmark, opened, f"re-ranking by {way}, 20 of 100", calls, way)
    assert len(set(picked.tolist())) == _SHOWN


@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_whole_request(benchmark, opened: Opened, variant: str) -> None:
    """Time ``recommend``: ids in, 20 ids with reasons out."""
    user = opened.variants["fp32"].catalogue.user_ids[opened.request.user]
    calls = {
        name: (lambda row=row: row.recommend(user, _SHOWN)) for name, row in opened.variants.items()
    }
    answer = _row(benchmark, opened, f"whole request, {variant}", calls, variant)
    assert len(answer) == _SHOWN


def _row(
    benchmark: Any, opened: Opened, name: str, calls: dict[str, Callable[[], Any]], target: str
) -> Any:
    """Time calls in turns, keep the target's figures, and return its answer."""
    times = compare_latency(calls, baseline=next(iter(calls)), plan=_PLAN)
    benchmark.group = f"recommender, one thread, {opened.model}"
    figures = asdict(times[target])
    share = opened.variants["fp32"].pipeline.policy.ranking_weight
    told = {"input": name, "target": target, "model": opened.model, "ranking_weight": share}
    benchmark.extra_info.update({**told, **figures})
    return benchmark.pedantic(calls[target], rounds=20, iterations=1, warmup_rounds=2)


def _small(place: Path) -> Path:
    """Train and export on a seeded log: 300 users, 900 items, 9,000 impressions."""
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 300, 9000), rng.integers(0, 900, 9000)
    alike = (users % 6 == items % 6).astype(float)
    seen = rng.random(9000) < 0.15 + 0.6 * alike
    lines = ["user,item,time,tab,long_view,watch_s"]
    for row in range(9000):
        watched = 30 * seen[row] + rng.random()
        lines.append(
            f"u{users[row]},i{items[row]},{1_700_000_000 + 60 * row},t{row % 3},"
            f"{int(seen[row])},{watched:.2f}"
        )
    (place / "log.csv").write_text("\n".join([*lines, ""]))
    rows = [f"i{item},a{item % 60},{1 + item % 9}" for item in range(900)]
    (place / "items.csv").write_text("\n".join(["item,author,minutes", *rows, ""]))
    (place / "schema.yaml").write_text(_SCHEMA)
    trained = edgeml.finetune(
        task="recommendation",
        data=place / "log.csv",
        schema=place / "schema.yaml",
        settings=edgeml.RecommenderSettings(epochs=1, num_threads=1),
        out=place / "checkpoint",
    )
    edgeml.export(trained.checkpoint, out=place / "recommender.bundle")
    return place / "recommender.bundle"
