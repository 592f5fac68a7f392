"""The linter as a whole: what publish writes, wrong requests, lines, containers, the verb."""

from __future__ import annotations

import argparse
import itertools
import json
import re
import sys
from pathlib import Path

import pytest

from edgeml.cli.triton_lint import VERB
from edgeml.core.bundle import Bundle
from edgeml.core.progress import silent
from edgeml.errors import InputError, MissingExtraError
from edgeml.serving.lint import RULES, Finding, lint_repository
from edgeml.serving.lint.locating import Fields
from edgeml.serving.lint.targets import TARGETS, find_target
from edgeml.serving.repository.options import ServingOptions
from edgeml.serving.repository.publish import publish_bundle
from tests.unit.serving.lint_yard import FLOAT, Yard, parse
from tests.unit.serving.tiny_bundle import make_lookup_bundle

ROOT = Path(__file__).parents[3]


def worse_than_notes(rows: list[Finding]) -> list[Finding]:
    return [row for row in rows if row.level != "note"]


@pytest.mark.parametrize("policy", ["required", "allowed", "forbidden"])
def test_what_publish_writes_is_clean(
    policy: str, tiny: Bundle, sentiment: Bundle, repository: Path
) -> None:
    publish_bundle(tiny, repository, policy=policy)
    publish_bundle(sentiment, repository, policy=policy)
    publish_bundle(tiny, repository, policy=policy)  # a second version beside the first
    assert worse_than_notes(lint_repository(repository, strict=True)) == []


def test_every_option_of_publish_is_clean(
    tiny: Bundle, sentiment: Bundle, repository: Path
) -> None:
    options = ServingOptions(
        num_threads=2, instances=2, max_batch_size=6, queue_delay_us=100, tensorrt=True
    )
    publish_bundle(tiny, repository, options=options)
    publish_bundle(sentiment, repository, options=options)
    assert worse_than_notes(lint_repository(repository, strict=True)) == []


def test_axes_that_are_scalars_and_a_batch_of_one_are_clean(tmp_path: Path) -> None:
    bundle = make_lookup_bundle(tmp_path / "lookup.bundle")
    options = ServingOptions(max_batch_size=1, warmup=False)
    publish_bundle(bundle, tmp_path / "models", policy="forbidden", options=options)
    assert worse_than_notes(lint_repository(tmp_path / "models", strict=True)) == []


def test_the_repository_in_git_is_clean_and_not_built() -> None:
    rows = lint_repository(ROOT / "triton_repo")
    assert worse_than_notes(rows) == []
    assert {row.rule for row in rows} <= {"artefact-not-built", "queue-unbounded"}


def test_strict_makes_what_is_not_built_an_error(tmp_path: Path) -> None:
    yard = Yard()
    yard.unbuilt()
    rows = lint_repository(yard.write(tmp_path), strict=True)
    unbuilt = [row for row in rows if row.level == "error"]
    assert {row.rule for row in unbuilt} == {"artefact-not-built"}
    assert [row.file for row in unbuilt] == [
        f"{name}/config.pbtxt" for name in ("after", "chain", "plain")
    ]


def test_findings_come_by_file_and_line(tmp_path: Path) -> None:
    yard = Yard()
    yard.main["cc_model_filenames"] = {"8": "fp16.onnx", "sm_90": "fp16.onnx"}
    yard.instead["plain/labels.txt"] = b"one"
    rows = lint_repository(yard.write(tmp_path))
    places = [(row.file, row.line or 0) for row in rows]
    assert places == sorted(places)
    assert json.loads(json.dumps(rows[0].to_json())).keys() == {
        *("file", "line", "rule", "level", "message")
    }


def test_a_repository_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a folder"):
        lint_repository(tmp_path / "gone")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "README.md").write_text("empty")
    with pytest.raises(InputError, match="has no models"):
        lint_repository(tmp_path)
    Yard().write(tmp_path)
    with pytest.raises(InputError, match="one model's folder"):
        lint_repository(tmp_path / "plain")


@pytest.mark.parametrize("text", [b"\xff\xfe", b"name: ", b"}", b"backend {", b"max_batch_size: x"])
def test_text_that_is_no_configuration_is_a_finding(text: bytes, tmp_path: Path) -> None:
    yard = Yard()
    yard.instead["after/config.pbtxt"] = text
    rows = lint_repository(yard.write(tmp_path))
    # The ensemble runs this model: that it cannot be read is said once.
    assert [(row.rule, row.file) for row in rows if row.level == "error"] == [
        ("config-unreadable", "after/config.pbtxt")
    ]


@pytest.mark.parametrize(
    "contents", [b"", b"\x00" * 64, b"ir_version", parse(FLOAT).SerializeToString()[:-40]]
)
def test_a_damaged_file_is_a_finding(contents: bytes, tmp_path: Path) -> None:
    yard = Yard()
    yard.instead["plain/1/fp32.onnx"] = contents
    rules = {row.rule for row in lint_repository(yard.write(tmp_path)) if row.level == "error"}
    assert rules == {"artefact-unreadable", "artefact-hash"}


def test_a_name_that_is_no_text_is_shown_and_stops_nothing(tmp_path: Path) -> None:
    contents = parse(FLOAT).SerializeToString()
    yard = Yard()
    yard.instead["plain/1/fp32.onnx"] = contents.replace(b"MatMul", b"MatM\xff\xfe").replace(
        b"\x01y", b"\x01\xff"
    )
    rows = lint_repository(yard.write(tmp_path))
    assert any(r"\xff" in row.message for row in rows if row.rule == "tensor-unknown")


def test_a_bytes_input_that_is_dequantized_is_no_quantized_graph(tmp_path: Path) -> None:
    text = """
    <ir_version: 10, opset_import: ["": 18]>
    plain (uint8[batch, 3] x) => (float[batch, 3] y)
    <float s = {0.1}, uint8 z = {127}>
    { y = DequantizeLinear(x, s, z) }
    """
    yard = Yard()
    yard.graphs["fp16.onnx"] = parse(text)
    rules = {row.rule for row in lint_repository(yard.write(tmp_path))}
    assert "int8-on-gpu" not in rules
    assert "artefacts-differ" in rules


def test_an_operator_inside_a_branch_is_seen(tmp_path: Path) -> None:
    text = """
    <ir_version: 10, opset_import: ["": 18, "com.microsoft": 1]>
    plain (float[batch, 3] x, bool c) => (float[batch, 3] y)
    {
        y = If (c) <
            then_branch = g1 () => (float[batch, 3] a) { a = com.microsoft.GatedAdd(x, x, x) },
            else_branch = g2 () => (float[batch, 3] b) { b = Identity(x) }
        >
    }
    """
    yard = Yard()
    yard.graphs["fp32.onnx"] = parse(text)
    rows = lint_repository(yard.write(tmp_path))
    assert any("GatedAdd" in row.message for row in rows if row.rule == "contrib-operator-unknown")


HAND_WRITTEN = """\
# name: "commented"
name: 'plain' max_batch_size: 4
input [
  { name: "x" dims: [ 3, 4 ] },
  {
    name: "text # not a comment }"
    dims: -1
  }
]
dynamic_batching { preferred_batch_size: [ 2, 4 ] }
parameters < key: "a" value { string_value: "1" } >
parameters {
  value: { string_value: "2" }
  key: "b"
}
input: [] output: [] backend: "x"
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("name",), 2),
        (("max_batch_size",), 2),
        (("input",), 4),
        (("input", 0, "dims"), 4),
        (("input", 1), 5),
        (("input", 1, "name"), 6),
        (("input", 1, "dims"), 7),
        (("dynamic_batching", "preferred_batch_size"), 10),
        (("parameters", 1), 12),
        (("backend",), 16),
        (("platform",), None),
        (("input", 2), None),
    ],
)
def test_lines_are_found_in_what_people_write(
    path: tuple[str | int, ...], line: int | None
) -> None:
    assert Fields(HAND_WRITTEN).line(*path) == line
    assert Fields(HAND_WRITTEN).line_of_key("parameters", "b") == 14


def test_a_newer_container_takes_a_newer_file(tmp_path: Path) -> None:
    yard = Yard()
    for name in yard.graphs:
        yard.graphs[name].opset_import[0].version = 20
    yard.write(tmp_path)

    def rules(target: str) -> set[str]:
        rows = lint_repository(tmp_path, target=target)
        return {row.rule for row in rows if row.level == "error"}

    assert rules("23.12") == {"opset-too-new", "ir-version-too-new"}
    assert rules("24.10") == set()


def test_an_unknown_container_is_refused() -> None:
    with pytest.raises(InputError, match=r"'24\.13' is not known; one of 23\.10.* nearest older"):
        find_target("24.13")


def test_containers_never_lose_what_they_could_read() -> None:
    rows = [find_target(tag) for tag in sorted(TARGETS)]
    for older, newer in itertools.pairwise(rows):
        assert older.runtime.opset <= newer.runtime.opset
        assert older.runtime.ir_version <= newer.runtime.ir_version
        assert older.contrib <= newer.contrib


def test_without_onnx_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("edgeml.serving.lint")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match="export"):
        VERB.run(_arguments("anywhere"), silent)


def _arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    VERB.configure(parser)
    return parser.parse_args(words)


def test_the_verb_says_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = VERB.run(_arguments(str(Yard().write(tmp_path))), silent)
    assert (outcome.code, outcome.error, outcome.result["ok"]) == (0, None, True)
    (tmp_path / "plain/labels.txt").unlink()
    outcome = VERB.run(_arguments(str(tmp_path)), silent)
    assert (outcome.code, outcome.result["ok"]) == (1, False)
    assert outcome.error is not None
    assert "2 of" in outcome.error
    assert "plain/config.pbtxt:" in outcome.error
    assert {"file", "line", "rule", "level", "message"} == outcome.result["findings"][0].keys()
    outcome.show()
    assert "labels-missing" in capsys.readouterr().out


def test_the_guide_lists_every_rule_with_its_level() -> None:
    text = (ROOT / "docs/guides/lint.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([a-z0-9-]+)` \| (error|warning|note)", text, flags=re.MULTILINE))
    assert rows == {rule.name: rule.level for rule in RULES}
    assert all(tag in text for tag in TARGETS)
