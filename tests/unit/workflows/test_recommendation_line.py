"""The whole line on somebody's own log: train, export, verify, recommend; and what goes wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeml
from edgeml.cli import main
from edgeml.core.timing import TimingPlan
from edgeml.errors import BundleError, ClosedError, DataError, InputError, IntegrityError
from edgeml.recommending.evaluation.records import read_split, read_top
from edgeml.recommending.evaluation.systems import recompute
from edgeml.workflows import recommendation_exporting
from edgeml.workflows.recommendation_ranking import RankerGate
from tests.interaction_logs import write_log

QUICK = RankerGate(requests=12, candidates=50, plan=TimingPlan(rounds=6, calls=2, budget_s=1.0))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the log, ``ck`` (schema with signals), ``bare`` (ids and times alone)."""
    folder = tmp_path_factory.mktemp("line")
    log = write_log(folder, users=80, items=40, rows=3000)
    for name, schema in (("ck", "schema.yaml"), ("bare", "bare.yaml")):
        edgeml.finetune(
            task="recommendation",
            data=log,
            schema=folder / schema,
            out=folder / name,
            settings=edgeml.RecommenderSettings(epochs=1, num_threads=1),
        )
        recommendation_exporting.export_recommender(
            folder / name, out=folder / f"{name}.bundle", name=None, version="1", gate=QUICK
        )
    return folder


@pytest.fixture
def recommender(place: Path) -> Any:
    with edgeml.load_recommender(place / "ck.bundle", verify="golden") as found:
        yield found


@pytest.fixture
def copy(place: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(place / "ck.bundle", tmp_path / "copy.bundle"))


def test_a_known_user_gets_unseen_items_with_reasons(recommender: Any, place: Path) -> None:
    found = recommender.recommend("u-003", 5)
    assert len({row.item for row in found}) == 5
    assert all(row.reasons for row in found)
    lines = (place / "log.csv").read_text().splitlines()[1:]
    wanted = {line.split(",")[2] for line in lines if ",u-003," in line and ",1," in line}
    assert not wanted & {row.item for row in found}


def test_tastes_are_learnt(recommender: Any) -> None:
    """Users of this log want their own genre: code n is of genre n modulo 4."""
    found = recommender.recommend(None, 6, history=["c00", "c04", "c08", "c12"])
    assert sum(int(row.item[1:]) % 4 == 0 for row in found) >= 4
    assert any("because you liked c" in row.reasons[0] for row in found)


@pytest.mark.parametrize(
    ("user", "history", "reason"),
    [
        ("nobody", None, "unknown user"),
        (None, None, "no history"),
        (None, [], "popular"),
        (None, ["x1", "x2"], "no item of the history is in the catalogue"),
    ],
)
def test_who_is_not_known_gets_what_is_popular(
    recommender: Any, user: str | None, history: list[str] | None, reason: str
) -> None:
    found = recommender.recommend(user, 3, history=history)
    assert len(found) == 3
    assert "popular" in found[0].reasons
    assert reason in found[0].reasons


def test_unknown_ids_in_a_history_are_left_out(recommender: Any) -> None:
    known = recommender.recommend(None, 5, history=["c00", "c04"])
    assert recommender.recommend(None, 5, history=["zzz", "c00", "c04"]) == known


def test_a_k_beyond_the_catalogue_gives_all_that_is_left(recommender: Any) -> None:
    found = recommender.recommend(None, 5000, history=["c00"])
    assert len(found) == 39
    assert len({row.item for row in found}) == 39


def test_candidates_bound_the_answer(recommender: Any) -> None:
    found = recommender.recommend(None, 5, history=["c00"], candidates=["c01", "c02", "unknown"])
    assert {row.item for row in found} == {"c01", "c02"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"k": 0}, "k is 0"),
        ({"k": True}, "k is True"),
        ({"history": "c00,c01"}, "a list of ids"),
        ({"history": [1.5]}, "history holds 1.5"),
        ({"history": [""]}, "history holds ''"),
        ({"candidates": ["c01", "c01"]}, "given twice"),
        ({"candidates": ["x"]}, "none of the 1 candidates"),
        ({"candidates": []}, "none of the 0 candidates"),
        ({"history": ["c01"], "candidates": ["c01"]}, "no candidate is left"),
        ({"context": {"tab": 1}}, "known names: device"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(
    recommender: Any, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        recommender.recommend(**{"user": None, **arguments})


def test_a_closed_recommender_says_so(place: Path) -> None:
    found = edgeml.load(place / "bare.bundle")
    found.close()
    found.close()
    with pytest.raises(ClosedError):
        found.recommend("u-001")  # type: ignore[attr-defined]


def test_a_bare_log_trains_on_candidates(place: Path) -> None:
    checkpoint = json.loads((place / "bare/checkpoint.json").read_text())
    assert checkpoint["training"]["objective"] == "listwise"
    with edgeml.load_recommender(place / "bare.bundle") as found:
        assert len(found.recommend("u-001", 4)) == 4


def test_verify_and_inspect_know_the_task(place: Path) -> None:
    verification = edgeml.verify(place / "ck.bundle")
    assert verification.ok, [check for check in verification.checks if not check.ok]
    names = [check.name for check in verification.checks]
    assert "golden features" in names
    assert main(["inspect", str(place / "ck.bundle")]) == 0


def test_a_changed_file_is_found(copy: Path) -> None:
    file = copy / "recommendation/items.npz"
    data = bytearray(file.read_bytes())
    data[-200] ^= 1
    file.write_bytes(data)
    assert not edgeml.verify(copy).ok
    with pytest.raises(IntegrityError, match="sha256"):
        edgeml.load_recommender(copy)


def test_parts_of_two_exports_are_never_mixed(place: Path, copy: Path) -> None:
    """Even where somebody rewrites the manifest: the parts' own version refuses it."""
    from edgeml.core.bundle import Bundle, write_bundle

    for relative in ("recommendation/index/index.json", "recommendation/index/index.npz"):
        shutil.copyfile(place / "bare.bundle" / relative, copy / relative)
    write_bundle(copy, Bundle.read(copy).manifest, place=copy)
    with pytest.raises(IntegrityError, match="version"):
        edgeml.load_recommender(copy)
    shutil.copyfile(place / "bare.bundle/recommendation/items.npz", copy / "x.npz")
    shutil.move(copy / "x.npz", copy / "recommendation/items.npz")
    write_bundle(copy, Bundle.read(copy).manifest, place=copy)
    with pytest.raises(IntegrityError, match="of one export were expected"):
        edgeml.load_recommender(copy)


def test_another_task_is_refused(place: Path) -> None:
    from edgeml.core.bundle import Bundle
    from edgeml.workflows.recommendation_loading import open_recommender

    bundle = Bundle.read(place / "ck.bundle")
    object.__setattr__(bundle.manifest, "task", "tensor")
    with pytest.raises(BundleError, match=r"use edgeml\.load"):
        open_recommender(bundle)


def test_a_damaged_checkpoint_is_not_exported(place: Path, tmp_path: Path) -> None:
    checkpoint = Path(shutil.copytree(place / "ck", tmp_path / "ck"))
    (checkpoint / "ranker.json").write_text("{}")
    with pytest.raises(DataError, match="damaged"):
        edgeml.export(checkpoint, out=tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_a_gate_of_classifiers_and_data_are_refused(place: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gates of its own"):
        edgeml.export(place / "ck", out=tmp_path / "b", gate=edgeml.Gate(max_accuracy_drop=0.1))
    with pytest.raises(InputError, match="leave data out"):
        edgeml.export(place / "ck", out=tmp_path / "b", data="movielens-100k")


def test_every_figure_can_be_recomputed(place: Path) -> None:
    metrics = json.loads((place / "ck/metrics.json").read_text())
    split, top = read_split(place / "ck/eval/split.npz"), read_top(place / "ck/eval/top10.npz")
    again = recompute(split, top)
    assert set(metrics["systems"]) == {
        "retrieval",
        "end_to_end",
        "ease",
        "item_knn",
        "popularity",
    }
    for system, figures in metrics["systems"].items():
        for name in ("ndcg_at_10", "recall_at_10", "coverage", "gini", "novelty"):
            assert again[system][name] == pytest.approx(figures[name]), (system, name)
    assert again["impressions_ranker"]["auc"] == pytest.approx(metrics["impressions"]["auc"])
    assert "logging policy" in metrics["impressions"]["conditioned_on"]
    # By hand, and not by the code that made it.
    relevant = {int(user): set() for user in top.users}
    for user, item in zip(*split.parts["test"], strict=True):
        relevant[int(user)].add(int(item))
    gains = []
    for user, items in zip(top.users, top.lists["end_to_end"], strict=True):
        wanted = relevant[int(user)]
        hits = [1 / np.log2(rank + 2) for rank, item in enumerate(items) if int(item) in wanted]
        best = sum(1 / np.log2(rank + 2) for rank in range(min(10, len(wanted))))
        gains.append(sum(hits) / best)
    assert np.mean(gains) == pytest.approx(metrics["systems"]["end_to_end"]["ndcg_at_10"])


def test_the_command_line(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, schema = str(place / "log.csv"), str(place / "schema.yaml")
    finetune = ["finetune", "--task", "recommendation", "--data", log, "--out", str(tmp_path / "c")]
    assert main([*finetune, "--schema", str(tmp_path / "none.yaml")]) == 2
    assert "no such schema" in capsys.readouterr().err
    assert main([*finetune, "--schema", schema, "--max-length", "5"]) == 2
    assert "--max-length" in capsys.readouterr().err
    asked = ["recommend", str(place / "ck.bundle"), "--k", "3", "--json"]
    assert main([*asked, "--user", "u-001", "--context", "device=tv"]) == 0
    rows = json.loads(capsys.readouterr().out)["recommendations"]
    assert [set(row) for row in rows] == [{"item", "score", "reasons"}] * 3
    assert main([*asked, "--history", "c00, c04", "--candidates", "c01,c02"]) == 0
    assert len(json.loads(capsys.readouterr().out)["recommendations"]) == 2
    assert main([*asked, "--user", "u-001", "--candidates", "zzz"]) == 2
    assert capsys.readouterr().err.count("error:") == 1


def test_a_log_too_small_to_judge_is_refused(tmp_path: Path) -> None:
    log = write_log(tmp_path, users=3, items=4, rows=40)
    with pytest.raises(DataError, match="wants an item that they had not wanted before"):
        edgeml.finetune(
            task="recommendation", data=log, schema=tmp_path / "bare.yaml", out=tmp_path / "c"
        )
    assert not (tmp_path / "c").exists()


def test_schema_is_for_recommenders_alone(place: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="schema is for recommendation"):
        edgeml.finetune(data="fashion-mnist", schema=place / "schema.yaml", out=tmp_path / "c")


def test_recommending_imports_no_torch(place: Path) -> None:
    program = (
        "import sys, edgeml\n"
        f"with edgeml.load({str(place / 'ck.bundle')!r}) as found:\n"
        "    assert found.recommend('u-001', 3)\n"
        "heavy = {'torch', 'onnx', 'transformers', 'sklearn', 'pyarrow', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
