"""The results as JSON and as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.zoo.catalogue import CALIBRATION_SAMPLES, RECIPES
from benchmarks.zoo.members import MEMBERS
from benchmarks.zoo.table import GOOD_RATIO, LEAST_RATIO
from edgeml.core.files import write_json

Row = Mapping[str, Any]

_COLUMNS = (
    "model",
    "fp32 ms",
    "chosen on ONNX Runtime",
    "chosen of all engines",
    "checks, µs",
    "over fp32",
    "drop, points",
    "fastest recipe that passes",
    "over it",
    "NNCF: drop, gate",
    "over NNCF, ONNX Runtime",
    "over NNCF, all engines",
    "search s",
    "again s",
)


def write(results: Row, *, folder: Path, name: str) -> None:
    """Write ``name.json`` and ``name.md``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{name}.json", results)
    (folder / f"{name}.md").write_text(page(results), encoding="utf-8")


def page(results: Row) -> str:
    """Return the whole page as Markdown."""
    parts = [*_head(results), "", *_table(results["rows"]), "", *_summary(results["summary"])]
    return "\n".join([*parts, "", *_missing(results["missing"]), *_notes(results), ""])


def _head(results: Row) -> list[str]:
    machine, plan = results["machine"], results["plan"]
    return [
        "# The zoo: a search beside fixed recipes and NNCF",
        "",
        f"`{results['command']}`, {results['date']}, commit {results['commit']}.",
        "",
        f"**Machine.** {machine['cpu']}, {machine['architecture']}, {machine['threads']} threads, "
        f"{machine['instruction_set']}, governor {machine['governor']}. Load average while timing: "
        f"at most {results['highest_load']}.",
        "",
        f"**Protocol.** One process a model, one thread, batch 1, one sample; {plan['rounds']} "
        f"rounds of {plan['calls']} calls each in an order drawn anew, for at most "
        f"{plan['budget_s']:g} s from a third of the rounds on. Ratios are medians over the rounds "
        "with a 95 % bootstrap interval, above 1 where ours is faster; 'unstable' marks rounds "
        "that disagree. Every file is called bare, by its engine; 'checks' is what "
        "`edgeml.load(bundle, num_threads=1).run(feed)` takes beyond that for ours.",
        "",
        f"**Gate.** Every file on the same samples: all but the first {CALIBRATION_SAMPLES}, which "
        "recipes calibrate on; at most half a point of accuracy below fp32, or, without labels, a "
        "relative error of at most 0.05.",
    ]


def _table(rows: Sequence[Row]) -> list[str]:
    lines = [_COLUMNS, ["---"] * len(_COLUMNS), *(_cells(row) for row in rows)]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _cells(row: Row) -> list[str]:
    gate = "passes" if row["nncf"]["passed"] else f"fails, scored as {row['nncf_as']}"
    return [
        row["member"],
        f"{row['fp32_ms']:.3f}",
        row["chosen"],
        f"{row['chosen_of_any']} ({row['engine']})",
        f"{row['checks_us']:.0f}",
        _ratio(row["over_fp32"]),
        _drop(row["verdict"]),
        row["best_fixed"],
        _ratio(row["over_best_fixed"]),
        f"{_drop(row['nncf'])}, {gate}",
        _ratio(row["over_nncf"]),
        _ratio(row["any_over_nncf"]),
        f"{row['seconds']:.0f}, {row['any_seconds']:.0f}",
        f"{row['warm_seconds']:.0f}, {row['any_warm_seconds']:.0f}",
    ]


def _ratio(row: Row) -> str:
    mark = "" if row["stable"] else ", unstable"
    return f"{row['faster_by']:.2f}x ({row['low']:.2f} to {row['high']:.2f}{mark})"


def _drop(row: Row) -> str:
    if row.get("drop") is not None:
        return f"{100 * row['drop']:+.2f}"
    error = row.get("relative_error")
    return "-" if error is None else f"error {error:.3f}"


def _summary(found: Row) -> list[str]:
    def named(names: Sequence[str]) -> str:
        return "none" if not names else ", ".join(names)

    def times(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}x"

    return [
        "## Summary",
        "",
        f"- Never worse, on each of {found['members']} models: the choice keeps the gate, and is "
        f"not proven slower than the bundle's own fp32. Worse: {named(found['worse'])}.",
        f"- Against the fastest fixed recipe that applies and passes, at least {LEAST_RATIO}x on "
        f"each. Below: {named(found['below_least'])}.",
        f"- Against it, at least {GOOD_RATIO}x on {found['good_needed']} models or more: on "
        f"{found['good']}. Geometric mean {times(found['over_best_fixed'])}.",
        f"- Against NNCF, geometric means: ONNX Runtime alone {times(found['over_nncf'])}, all "
        f"engines {times(found['any_over_nncf'])}. NNCF fails its gate on: "
        f"{named(found['nncf_failed'])}; there it counts as fp32 on the faster engine.",
        f"- Against fp32, geometric mean {times(found['over_fp32'])}.",
        f"- Unstable: {named(found['unstable'])}.",
    ]


def _missing(missing: Mapping[str, str]) -> list[str]:
    if not missing:
        return []
    return ["## Without figures", "", *(f"- {name}: {why}" for name, why in missing.items()), ""]


def _notes(results: Row) -> list[str]:
    lines = ["## Who they are", ""]
    for row in results["rows"]:
        about = results["members"][row["member"]]
        accuracy = about["accuracy"]
        right = "no labels" if accuracy is None else f"accuracy {accuracy:.3f}"
        lines.append(
            f"- **{row['member']}**: {MEMBERS[row['member']].about}; weights: {about['weights']}; "
            f"{about['task']}; {about['samples']} samples, {right}; "
            f"{about['parameters'] / 1e6:.1f} M parameters."
        )
    lines += [f"- **{recipe.name}**: {recipe.about}." for recipe in RECIPES.values()]
    lines += ["", "## Each recipe's verdict", "", "| model | recipe | verdict |", "|---|---|---|"]
    for name, peers in results["peers"].items():
        for recipe, row in peers.items():
            verdict = "passes" if row["passed"] else "fails" if row["made"] else "not made"
            reason = str(row["reason"]).replace("|", "\\|")
            lines.append(f"| {name} | {recipe} | {verdict}: {reason} |")
    return lines
