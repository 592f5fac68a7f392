"""What the recipe for films and videos reports."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import edgeml
from export import video

FIGURES = {
    "ndcg_at_10": 0.3,
    "ndcg_at_10_interval": [0.2, 0.4],
    "recall_at_10": 0.2,
    "hit_at_10": 0.5,
    "mrr_at_10": 0.4,
    "coverage": 0.1,
    "gini": 0.9,
    "novelty": 8.0,
    "intra_list_diversity": 0.6,
    "popularity_bias": 1.0,
    "num_users": 5,
    "segments": {},
}
SYSTEMS = ("retrieval", "end_to_end", "ease", "item_knn", "popularity")


def metrics_of(ndcg: float = 0.3) -> dict[str, Any]:
    return {
        "systems": {name: {**FIGURES, "ndcg_at_10": ndcg} for name in SYSTEMS},
        "comparisons": {
            "end_to_end - ease": {"ndcg_at_10": 0.01, "ndcg_at_10_interval": [0.0, 0.02]}
        },
        "stages": [
            {"stage": "ranking", "ndcg_at_10": ndcg, "loss": 0.1, "loss_interval": [0.0, 0.2]}
        ],
        "protocol": {"split": "random", "users_judged": 5},
    }


def test_several_seeds_are_averaged_and_kept_apart() -> None:
    found = video.mean_of_seeds(
        [{"seed": seed, **metrics_of(ndcg)} for seed, ndcg in ((0, 0.3), (1, 0.5))]
    )
    assert found["systems"]["ease"]["ndcg_at_10"] == pytest.approx(0.4)
    # An interval over users says nothing of a mean over seeds.
    assert "ndcg_at_10_interval" not in found["systems"]["ease"]
    assert [row["ease"]["ndcg_at_10"] for row in found["seeds"]] == [0.3, 0.5]
    assert found["num_seeds"] == 2


def test_one_seed_is_reported_as_it_is() -> None:
    found = video.mean_of_seeds([{"seed": 0, **metrics_of()}])
    assert found["systems"] == metrics_of()["systems"]
    assert found["num_seeds"] == 1


def test_without_the_second_set_the_report_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def finetune(*, data: str, out: Path, **_: Any) -> Any:
        if data == video.VIDEOS:
            raise edgeml.EdgemlError(f"{data}: $EDGEML_DATA_DIR is not set")
        (out / "eval").mkdir(parents=True)
        for name in ("split.npz", "top10.npz"):
            (out / "eval" / name).write_bytes(b"x")
        return SimpleNamespace(metrics=metrics_of())

    monkeypatch.setattr(edgeml, "finetune", finetune, raising=False)
    monkeypatch.setattr(video, "_bundle_rows", lambda *_: [])
    video.run(preset="quick", place=tmp_path, repository=tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    assert set(report["metrics"][video.FILMS]["systems"]) == set(SYSTEMS)
    assert "EDGEML_DATA_DIR" in report["source"]["not_run"]
    assert (tmp_path / "eval/top10.npz").is_file()
    assert "movielens-100k" in (tmp_path / "report.html").read_text()
