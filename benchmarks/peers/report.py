"""The results as JSON and as Markdown; the terminal shows the same tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.catalogue import OURS, PEERS
from edgeml.core.files import write_json

Row = Mapping[str, Any]


def write(results: Row, *, folder: Path, name: str) -> None:
    """Write ``name.json`` and ``name.md``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{name}.json", results)
    (folder / f"{name}.md").write_text(markdown(results), encoding="utf-8")


def markdown(results: Row) -> str:
    """Return the whole page."""
    return "\n".join([*_head(results), "", *tables(results), "", *_peers(results), ""])


def tables(results: Row) -> list[str]:
    """Return the three tables as lines of Markdown."""
    return [
        *_latency(results["latency"]),
        "",
        *_whole(results["whole"], results["whole_texts"]),
        "",
        *_share(results["share"]),
    ]


def _head(results: Row) -> list[str]:
    machine, plan = results["machine"], results["protocol"]
    before, after = results["load_before"][0], results["load_after"][0]
    lines = [
        "# The text path beside its peers",
        "",
        f"`{results['command']}`, {results['date']}, commit {results['commit']}.",
        "",
        f"**Machine.** {machine['cpu']}, {machine['architecture']}, {machine['threads']} threads, "
        f"{machine['instruction_set']}, governor {machine['governor']}; load average {before} "
        f"before and {after} after.",
        "",
        f"**Protocol.** One process and one thread for each peer. {plan['rounds']} rounds; in "
        f"each, everybody answers the same {plan['block']} sentences one by one, in an order drawn "
        f"anew; {plan['warmup']} blocks of warm-up are not counted. String in, label out; the "
        "clock is in the worker, garbage collection on. Ratios are medians over the rounds of "
        "block medians, with a 95 % bootstrap interval; 'unstable' marks rounds that disagree. "
        "Times are of this machine only.",
        "",
        "**Files.** "
        + "; ".join(
            f"{what} {row['file']} (sha256 {row['sha256'][:12]})"
            for what, row in results["files"].items()
        )
        + ".",
    ]
    return lines


def _latency(rows: Sequence[Row]) -> list[str]:
    ours = [row for row in rows if row["peer"] in OURS]
    heads = [f"{row['peer']} is faster by" for row in ours]
    columns = ["peer", "p50 ms", "p90 ms", "p99 ms", *heads]
    columns += ["accuracy", "agrees with transformers", "MB", "calls"]
    return ["## One sentence at a time", "", *_table(columns, [_cells(row, ours) for row in rows])]


def _cells(row: Row, ours: Sequence[Row]) -> list[str]:
    if not row["valid"]:
        return [row["peer"], f"invalid: {row['reason']}"]
    agreement = "-"
    if row["agreement"] is not None:
        agreement = f"{row['agreement']:.4f} ({row['flips']} flips)"
    return [
        row["peer"],
        f"{row['p50_ms']:.3f}",
        f"{row['p90_ms']:.3f}",
        "-" if row["p99_ms"] is None else f"{row['p99_ms']:.3f}",
        *(_ratio(our, row["peer"]) for our in ours),
        f"{row['accuracy']:.4f} of {row['num_sentences']}",
        agreement,
        "-" if row["rss_mb"] is None else f"{row['rss_mb']:.0f}",
        str(row["num_calls"]),
    ]


def _ratio(our: Row, peer: str) -> str:
    ratio = our.get("times_faster_than", {}).get(peer)
    if ratio is None:
        return "-"
    mark = "" if ratio.get("stable", True) else ", unstable"
    return f"{ratio['median']:.2f}x ({ratio['low']:.2f} to {ratio['high']:.2f}{mark})"


def _whole(rows: Sequence[Row], num_texts: int) -> list[str]:
    head = ["## A whole list"]
    if not rows:
        return [*head, "", "Not run."]
    about = (
        f"{num_texts} texts in file order, each worker held to one processor; edgeml by "
        "predict_batch, the others by their pipeline with batch_size=32. Median of the passes; the "
        "brackets hold the slowest and the fastest."
    )
    ours = [row for row in rows if row["peer"] in OURS]
    columns = ["peer", "texts/s", *(f"{row['peer']} is faster by" for row in ours)]
    cells = []
    for row in rows:
        if not row["valid"]:
            cells.append([row["peer"], f"invalid: {row['reason']}"])
            continue
        slow, fast = row["slowest_per_s"], row["fastest_per_s"]
        rate = f"{row['texts_per_s']:.0f} ({slow:.0f} to {fast:.0f})"
        cells.append([row["peer"], rate, *(_ratio(our, row["peer"]) for our in ours)])
    return [*head, "", about, "", *_table(columns, cells)]


def _share(rows: Sequence[Row]) -> list[str]:
    head = ["## What our path adds to the model"]
    if not rows:
        return [*head, "", "Not run."]
    about = (
        "Tokenizing, checks, softmax and labels: 1 - median(model alone on the same prepared "
        "tensors) / median(predict), in turns in one process."
    )
    columns = ["peer", "predict p50 ms", "model alone p50 ms", "added µs", "share"]
    cells = [
        [
            row["peer"],
            f"{row['answer_p50_ms']:.3f}",
            f"{row['model_p50_ms']:.3f}",
            f"{row['beyond_model_us']:.0f}",
            f"{100 * row['share']:.1f} % ({100 * row['low']:.1f} to {100 * row['high']:.1f})",
        ]
        for row in rows
    ]
    return [*head, "", about, "", *_table(columns, cells)]


def _peers(results: Row) -> list[str]:
    lines = ["## Who they are", ""]
    for row in results["latency"]:
        if row["valid"]:
            versions = ", ".join(f"{name} {value}" for name, value in row["versions"].items())
            facts = "".join(f"; {name} {value}" for name, value in row["facts"].items())
            used = f"; {row['processors']:.2f} processors used"
            lines.append(
                f"- **{row['peer']}**: {PEERS[row['peer']].about}. {versions}{facts}{used}."
            )
        else:
            lines.append(f"- **{row['peer']}**: {PEERS[row['peer']].about}. No figures.")
    return lines


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    filled = [[*row, *[""] * (len(columns) - len(row))] for row in rows]
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in filled]
    lines = [columns, ["---"] * len(columns), *escaped]
    return ["| " + " | ".join(line) + " |" for line in lines]
