"""The pure parts: schedules, turns of workers that fail, ratios, rows and the report."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.peers import __main__ as command_line
from benchmarks.peers import conditions, report, running
from benchmarks.peers.catalogue import ARTEFACTS, PEERS, artefacts_for
from benchmarks.peers.environments import requirements
from benchmarks.peers.measuring import Collected, Field, Turn
from benchmarks.peers.process import PeerError
from benchmarks.peers.schedule import Orders, blocks
from benchmarks.peers.settings import Protocol, Settings
from benchmarks.peers.summary import interval, latency_rows, paired_ratio, share_rows, whole_rows
from benchmarks.peers.texts import model_labels, read_labelled, read_texts
from edgeml.errors import DataError

_TEXTS = ["good", "bad", "fine", "dull"]
_LABELS = ["positive", "negative", "positive", "negative"]


class FakePeer:
    """Answers in a given time; fails at its n-th request."""

    def __init__(self, log: list[str], name: str, ns: int, *, fails_at: int | None = None) -> None:
        self._log, self._name, self._ns, self._left = log, name, ns, fails_at
        self.closed = False

    def ask(self, op: str, *, timeout_s: float, **request: Any) -> dict[str, Any]:
        self._log.append(self._name)
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise PeerError("out of memory")
        if op == "about":
            return {"versions": {"python": "3"}, "facts": {}, "rss_mb": 100.0}
        texts = request["texts"]
        labels = ["positive" if text in ("good", "fine") else "negative" for text in texts]
        if op == "whole":
            return {"ns": self._ns * len(texts), "labels": labels}
        if op == "split":
            return {
                "answer_ns": [self._ns] * len(texts),
                "model_ns": [self._ns * 3 // 4] * len(texts),
            }
        return {
            "ns": [self._ns] * len(texts),
            "labels": labels,
            "scores": [0.75] * len(texts),
            "wall_ns": 100,
            "cpu_ns": 99,
        }

    def close(self) -> None:
        self.closed = True


def _measured(fails_at: int | None = None, **options: Any) -> tuple[Field, list[str]]:
    log: list[str] = []
    plan = Protocol(rounds=6, block=3, warmup=1, split_blocks=2, repeats=2, **options)
    workers = {
        "edgeml": FakePeer(log, "edgeml", 1000),
        "transformers": FakePeer(log, "transformers", 4000),
        "optimum-int8": FakePeer(log, "optimum-int8", 2000, fails_at=fails_at),
    }
    field = Field(workers, {"bare-int8": "no environment"}, plan, lambda message: None)
    field.time_blocks(_TEXTS)
    field.ask_about()
    field.time_splits(_TEXTS)
    field.time_whole(_TEXTS)
    field.close()
    assert all(worker.closed for worker in workers.values())
    return field, log


def test_every_sentence_comes_once_before_any_comes_twice() -> None:
    drawn = blocks(7, size=3, count=7, seed=0)
    assert [len(block) for block in drawn] == [3] * 7
    stream = [index for block in drawn for index in block]
    for start in (0, 7, 14):
        assert sorted(stream[start : start + 7]) == list(range(7))
    assert drawn == blocks(7, size=3, count=7, seed=0)
    assert drawn != blocks(7, size=3, count=7, seed=1)


def test_a_block_may_be_larger_than_the_file() -> None:
    (block,) = blocks(2, size=5, count=1, seed=0)
    assert Counter(block).most_common()[-1][1] >= 2


def test_orders_are_drawn_anew_and_lose_nobody() -> None:
    orders = Orders(0)
    names = ["a", "b", "c"]
    drawn = [tuple(orders.draw(names)) for _ in range(40)]
    assert all(sorted(order) == names for order in drawn)
    assert len(set(drawn)) == 6


def test_all_answer_the_same_block_in_each_round() -> None:
    field, log = _measured()
    turns = field.collected.turns
    assert {name: len(rows) for name, rows in turns.items()} == dict.fromkeys(turns, 6)
    assert len({json.dumps([turn.indices for turn in rows]) for rows in turns.values()}) == 1
    rounds = [tuple(log[start : start + 3]) for start in range(3, 21, 3)]
    assert all(len(set(order)) == 3 for order in rounds)
    assert len(set(rounds)) > 1
    assert len(field.collected.splits["edgeml"]) == 2
    assert list(field.collected.splits) == ["edgeml"]
    assert set(field.collected.whole) == {"edgeml", "optimum-int8"}


@pytest.mark.parametrize("fails_at", [0, 3, 7, 9], ids=["warmup", "round", "about", "whole"])
def test_a_peer_that_fails_has_a_reason_and_no_figures(fails_at: int) -> None:
    field, _ = _measured(fails_at)
    names = ["edgeml", "transformers", "optimum-int8", "bare-int8"]
    rows = {row["peer"]: row for row in latency_rows(field.collected, names, _LABELS, seed=0)}
    assert rows["optimum-int8"] == {
        "peer": "optimum-int8",
        "valid": False,
        "reason": "out of memory",
    }
    assert rows["bare-int8"]["reason"] == "no environment"
    assert rows["edgeml"]["times_faster_than"].keys() == {"transformers"}
    assert rows["edgeml"]["num_calls"] == 18


def test_rows_hold_ratios_accuracy_and_agreement() -> None:
    field, _ = _measured()
    row = latency_rows(field.collected, ["edgeml", "transformers"], _LABELS, seed=0)[0]
    assert row["times_faster_than"]["transformers"]["median"] == 4.0
    assert row["p50_ms"] == 0.001
    assert row["p99_ms"] is None
    assert row["accuracy"] == 1.0
    assert (row["agreement"], row["flips"]) == (1.0, 0)
    assert row["num_sentences"] == 4
    assert row["processors"] == 0.99


def _turn(ns: list[int], **options: Any) -> Turn:
    count = len(ns)
    given = {"indices": list(range(count)), "labels": ["positive"] * count, **options}
    return Turn(ns=ns, scores=[0.5] * count, cpu_share=1.0, **given)


def test_a_ratio_is_paired_by_round_not_by_the_whole() -> None:
    # The machine was ten times slower in the second round, for both.
    ours = [_turn([10, 10, 10]), _turn([100, 100, 100])]
    theirs = [_turn([20, 20, 90]), _turn([200, 200, 900])]
    assert paired_ratio(theirs, ours, seed=0) == {
        "median": 2.0,
        "low": 2.0,
        "high": 2.0,
        "stable": True,
        "rounds": 2,
    }


def test_turns_of_other_rounds_have_no_ratio() -> None:
    with pytest.raises(ValueError, match="not of the same rounds"):
        paired_ratio([_turn([1, 2])], [_turn([1, 2], indices=[5, 6])], seed=0)


def test_rounds_that_disagree_are_unstable() -> None:
    assert interval(np.array([2.0] * 30), seed=0)["stable"] is True
    assert interval(np.array([1.0] * 15 + [2.0] * 15), seed=0)["stable"] is False


def test_p99_needs_a_thousand_calls() -> None:
    turns = [_turn(list(range(1, 501))) for _ in range(2)]
    labels = ["positive"] * 500
    (row,) = latency_rows(Collected(turns={"edgeml": turns}), ["edgeml"], labels, seed=0)
    assert row["p99_ms"] == pytest.approx(495.01e-6)
    assert row["agreement"] is None


def test_the_share_is_what_the_model_does_not_take() -> None:
    field, _ = _measured()
    (row,) = share_rows(field.collected, seed=0)
    assert row["share"] == 0.25
    assert row["beyond_model_us"] == 0.25


def test_a_whole_list_is_texts_over_seconds() -> None:
    collected = Collected(
        whole={"edgeml": [10**9, 2 * 10**9, 10**9], "optimum-int8": [2 * 10**9] * 3},
        failed={"optimum-fp32": "it died"},
    )
    names = ["edgeml", "optimum-fp32", "optimum-int8"]
    ours, failed, theirs = whole_rows(collected, names, num_texts=100)
    assert (ours["texts_per_s"], ours["slowest_per_s"]) == (100.0, 50.0)
    faster = ours["times_faster_than"]["optimum-int8"]
    assert faster == {"median": 2.0, "low": 1.0, "high": 2.0}
    assert failed["valid"] is False
    assert theirs["texts_per_s"] == 50.0


def test_the_catalogue_is_whole() -> None:
    for peer in PEERS.values():
        assert peer.environment is None or requirements(peer.environment).is_file()
        assert peer.artefact is None or peer.artefact in ARTEFACTS
    names = [row.name for row in artefacts_for(PEERS["openvino-int8"])]
    assert names == ["onnx-fp32", "openvino-int8"]
    assert artefacts_for(PEERS["edgeml"]) == ()
    assert set(PEERS) >= {
        *("torch-eager", "torch-compile", "transformers", "optimum-fp32", "openvino-fp32"),
        *("openvino-bf16", "openvino-int8", "edgeml-http", "fastapi-torch", "litserve"),
    }


@pytest.mark.parametrize("name", ["transformers", "optimum", "openvino", "fastapi", "litserve"])
def test_requirements_are_pinned_and_name_no_place(name: str) -> None:
    lines = requirements(name).read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(line.count("==") == 1 for line in pins)
    assert not any("/" in line or "@" in line for line in pins)


def test_texts_are_read_as_they_are(tmp_path: Path) -> None:
    tsv = tmp_path / "dev.tsv"
    tsv.write_text("a \"quoted film\t0\nit ' s good\tpositive\n")
    rows = read_labelled(tsv)
    assert rows.texts == ['a "quoted film', "it ' s good"]
    csv = tmp_path / "test.csv"
    csv.write_text('text,category\n"\nWhere, my card?",card_arrival\n')
    assert read_texts(csv) == ["\nWhere, my card?"]
    assert read_texts(tsv) == rows.texts


@pytest.mark.parametrize("contents", [None, "", "no label\n"], ids=["missing", "empty", "bare"])
def test_files_of_other_things_are_refused(tmp_path: Path, contents: str | None) -> None:
    file = tmp_path / "dev.tsv"
    if contents is not None:
        file.write_text(contents)
    with pytest.raises(DataError, match=r"dev\.tsv"):
        read_labelled(file)


def test_labels_are_indices_or_names(tmp_path: Path) -> None:
    names = {"id2label": {"0": "negative", "1": "positive"}}
    (tmp_path / "config.json").write_text(json.dumps(names))
    assert model_labels(tmp_path, ["0", "positive"]) == ["negative", "positive"]
    with pytest.raises(DataError, match="'card_arrival' is none of the model's"):
        model_labels(tmp_path, ["card_arrival"])


def test_a_protocol_that_measures_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="rounds is at least 1"):
        Protocol(rounds=0)
    with pytest.raises(ValueError, match="got nobody"):
        Settings(files=None, peers=("nobody",))


def test_the_command_names_no_place_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEML_DATA_DIR", "/private/data")
    arguments = ["--texts", "/private/data/sst2/dev.tsv", "--bundle", "/home/me/b", "--rounds", "3"]
    assert conditions.command(arguments) == (
        "python -m benchmarks.peers --texts $EDGEML_DATA_DIR/sst2/dev.tsv --bundle b --rounds 3"
    )


def test_a_run_with_failed_peers_reports_the_others_and_exits_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    names = {"id2label": {"0": "negative", "1": "positive"}}
    (tmp_path / "config.json").write_text(json.dumps(names))
    texts = tmp_path / "dev.tsv"
    pairs = zip(_TEXTS, _LABELS, strict=True)
    texts.write_text("".join(f"{text}\t{label}\n" for text, label in pairs))

    def open_worker(peer: Any, settings: Any, say: Any) -> FakePeer:
        if peer.name == "optimum-int8":
            raise PeerError("no | wheel")
        return FakePeer([], peer.name, 1000 if peer.ours else 3000)

    monkeypatch.setattr(running, "open_worker", open_worker)
    arguments = ["--checkpoint", str(tmp_path), "--texts", str(texts), "--calibration", str(texts)]
    arguments += [
        "--rounds",
        "4",
        "--block",
        "2",
        "--out",
        str(tmp_path / "out"),
        "--date",
        "today",
    ]
    chosen = ["--peers", "edgeml,transformers,optimum-int8"]
    assert command_line.main([*arguments, *chosen, "--offline", str(texts)]) == 1
    page = (tmp_path / "out" / "peers-text.md").read_text()
    assert "| optimum-int8 | invalid: no \\| wheel |" in page
    assert "3.00x (3.00 to 3.00)" in page
    assert str(tmp_path) not in page
    assert report.tables(json.loads((tmp_path / "out" / "peers-text.json").read_text()))
    assert "25.0 %" in capsys.readouterr().out
    assert command_line.main([*arguments, "--peers", "edgeml", "--offline"]) == 0
    assert command_line.main(["--checkpoint", str(tmp_path / "none"), *arguments[2:]]) == 2
