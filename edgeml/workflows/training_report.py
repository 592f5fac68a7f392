"""A fine-tuning as a page for people: what it learnt from, how it went, what it finds hardest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from edgeml.workflows.reporting import Picture, Report, ReportTable, render_html

if TYPE_CHECKING:
    from edgeml.training.checkpoint import Checkpoint

_WIDTH, _HEIGHT, _MARGIN = 640, 220, 44
_CELL, _LABEL_WIDTH = 26, 150
_MOST_CELLS = 40
_NO_ERROR = "No error; the right answers that the model was least sure of"
_COLOURS = ("#0a6ebd", "#bf3989", "#1a7f37")


def training_page(checkpoint: Checkpoint) -> str:
    """Return the page of a checkpoint of pictures, without outside references."""
    training, report = checkpoint.training, checkpoint.training["report"]
    return render_html(
        Report(
            recipe=f"fine-tuning of {checkpoint.model}",
            preset=str(checkpoint.data["name"]),
            source={
                "verdict": f"{report['fit']['verdict']}: {report['fit']['reason']}",
                "model": checkpoint.model,
                "starter weights": checkpoint.provenance["weights"],
                "data": checkpoint.data["name"],
                "pictures": _shown(checkpoint.data["split"]),
                "settings for": f"{training['settings_for']} data",
                "steps": _compute(training["history"]["compute"]),
            },
            rows=[],
            metrics=training_metrics(report),
            curve=[(row["step"], row["train_loss"]) for row in training["history"]["curve"]],
            tables=training_tables(report, checkpoint.data.get("findings", {})),
            pictures=training_pictures(report, checkpoint.labels),
        )
    )


def training_metrics(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the single figures of a training's report."""
    return {
        "verdict": report["fit"]["verdict"],
        "verdict_reason": report["fit"]["reason"],
        "validation_accuracy": report["accuracy"],
        "validation_macro_f1": report["macro_f1"],
        "validation_samples": report["samples"],
        "training_accuracy_unaugmented": report["train_accuracy"],
        "temperature": report["temperature"],
        "calibration_error_before": report["calibration_error"]["before"],
        "calibration_error_after": report["calibration_error"]["after"],
    }


def training_tables(report: Mapping[str, Any], findings: Mapping[str, Any]) -> list[ReportTable]:
    """Return the tables of a training's report: data, classes, confusions, operators.

    Args:
        report: A checkpoint's.
        findings: What was found in its data before the training; empty where nothing was noted.
    """
    tables = []
    if findings:
        counts = findings["classes"].values()
        many = findings.get("num_classes", len(counts))
        most = findings.get("largest_class", max(counts))
        classes = f"{many:,}, of {min(counts)} to {most} pictures"
        shown = ("classes", "num_classes", "largest_class")
        plain = [("classes", classes), *((k, v) for k, v in findings.items() if k not in shown)]
        rows = [[key.replace("_", " "), _shown(value)] for key, value in plain]
        tables.append(ReportTable(title="The data", columns=["what", "found"], rows=rows))
    judged = report["classes"]
    total = report.get("num_classes", len(judged))
    some = f"The {len(judged)} worst of {total:,} classes"
    which = "Each class" if len(judged) == total else some
    tables.append(_table(f"{which}, on validation pictures", judged))
    if report["confused"]:
        tables.append(_table("Most often confused", report["confused"]))
    if profile := report.get("profile"):
        title = f"Where a step of {profile['step_ms']:.0f} ms goes ({profile['compute']})"
        tables.append(_table(title, profile["operators"]))
    return tables


def training_pictures(report: Mapping[str, Any], labels: Sequence[str]) -> list[Picture]:
    """Return what a training's report draws: epochs, confusion matrix, hardest examples."""
    epochs = report["epochs"]
    losses = {
        "training loss (augmented)": [float(row["train_loss"]) for row in epochs],
        "validation loss": [float(row["validation_loss"]) for row in epochs],
    }
    accuracy = {"validation accuracy": [float(row["validation_accuracy"]) for row in epochs]}
    best = int(report["best_epoch"])
    drawn = [
        Picture(title="Loss by epoch", svg=_lines(losses, best)),
        Picture(title="Accuracy by epoch", svg=_lines(accuracy, best)),
    ]
    matrix = report.get("confusion")
    if matrix and len(labels) <= _MOST_CELLS:
        title = "Confusion on validation pictures (rows are right, columns given)"
        drawn.append(Picture(title=title, svg=_matrix(matrix, labels)))
    if examples := report["hardest"]:
        wrong = any(row["right"] != row["given"] for row in examples)
        title = "Errors that the model was surest of" if wrong else _NO_ERROR
        drawn.append(Picture(title=title, svg=_gallery(examples)))
    return drawn


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> ReportTable:
    columns = list(rows[0])
    return ReportTable(
        title=title, columns=columns, rows=[[row[column] for column in columns] for row in rows]
    )


def _compute(used: Mapping[str, Any]) -> str:
    kind = "bf16" if used["bf16"] else "fp32"
    layout = "channels_last" if used["channels_last"] else "contiguous"
    return f"{kind}, {layout}: {used['reason']}"


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "-"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_shown(inner)}" for key, inner in value.items()) or "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _lines(series: Mapping[str, Sequence[float]], best: int) -> str:
    """Draw one line each over epochs, and mark the epoch that was kept."""
    values = [value for row in series.values() for value in row]
    low, high = min(values), max(values)
    room = (high - low) or 1.0
    count = max(len(row) for row in series.values())
    base = _HEIGHT - 24

    def place(index: int, value: float) -> tuple[float, float]:
        across = _MARGIN + (_WIDTH - _MARGIN - 10) * index / max(1, count - 1)
        return across, base - (base - 12) * (value - low) / room

    parts = [
        f"<line class='axis' x1='{_MARGIN}' y1='{base}' x2='{_WIDTH}' y2='{base}'/>",
        f"<text x='2' y='{base}'>{low:.3g}</text><text x='2' y='16'>{high:.3g}</text>",
        f"<text x='{_MARGIN}' y='{_HEIGHT - 6}'>epoch 1</text>",
        f"<text x='{_WIDTH - 60}' y='{_HEIGHT - 6}'>epoch {count}</text>",
    ]
    for number, (name, row) in enumerate(series.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        points = " ".join(
            f"{x:.1f},{y:.1f}" for x, y in (place(index, value) for index, value in enumerate(row))
        )
        x, y = place(best - 1, row[best - 1])
        parts.append(
            f"<polyline class='line' style='stroke:{colour}' points='{points}'/>"
            f"<circle cx='{x:.1f}' cy='{y:.1f}' r='4' fill='{colour}'/>"
            f"<text x='{_MARGIN + 160 + 200 * number}' y='{_HEIGHT - 6}' "
            f"style='fill:{colour}'>{escape(name)}</text>"
        )
    return f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT}' role='img'>{''.join(parts)}</svg>"


def _matrix(matrix: Sequence[Sequence[int]], labels: Sequence[str]) -> str:
    """Draw a confusion matrix whose cells are shaded by their share of the row."""
    size = _CELL * len(labels)
    parts = []
    for row, counts in enumerate(matrix):
        total = sum(counts) or 1
        y = 10 + _CELL * row
        parts.append(f"<text x='0' y='{y + 17}'>{escape(labels[row][:22])}</text>")
        for column, count in enumerate(counts):
            x, share = _LABEL_WIDTH + _CELL * column, count / total
            colour = "#1a7f37" if row == column else "#bf3989"
            parts.append(
                f"<rect x='{x}' y='{y}' width='{_CELL}' height='{_CELL}' fill='{colour}' "
                f"fill-opacity='{share:.2f}' stroke='#d8dee4'><title>{escape(labels[row])} → "
                f"{escape(labels[column])}: {count}</title></rect>"
                + (f"<text x='{x + 4}' y='{y + 17}'>{count}</text>" if count else "")
            )
    width, height = _LABEL_WIDTH + size + 10, size + 20
    return (
        f"<svg viewBox='0 0 {width} {height}' style='max-width:{width}px' role='img'>"
        f"{''.join(parts)}</svg>"
    )


def _gallery(rows: Sequence[Mapping[str, Any]]) -> str:
    cards = "".join(
        f"<figure style='display:inline-block;margin:.4rem;width:130px;vertical-align:top'>"
        f"<img src='{escape(str(row['picture']), quote=True)}' alt='' width='96'>"
        f"<figcaption>{escape(str(row['item']))}<br>is {escape(str(row['right']))}, "
        f"given {escape(str(row['given']))} ({row['probability']:.2f})</figcaption></figure>"
        for row in rows
    )
    return f"<div>{cards}</div>"
