"""What an image classifier's training says of itself, as JSON values.

The temperature is fitted on the validation part and goes into the exported graph. The verdict on
overfitting compares the training pictures, unchanged, with the validation part, and knows how much
of a gap is chance.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgeml.training import figures
from edgeml.training.image_history import History, LabelledImages

# A matrix of more classes cannot be read, and grows with their square; of rows the worst tell.
_MOST_CLASSES = 100
_MOST_PAIRS = 20
_HARDEST = 12
_PICTURE_SIDE = 96
_MIN_GAP = 0.05
_LOW_TRAINING_ACCURACY = 0.9
_RISEN_LOSS = 1.2


def image_report(
    logits: figures.Floats,
    validation: LabelledImages,
    *,
    training: tuple[figures.Floats, figures.Targets],
    labels: Sequence[str],
    names: Sequence[str],
    history: History,
) -> dict[str, Any]:
    """Describe a classifier's answers on its validation part.

    Args:
        logits: float ``(samples, classes)`` on the validation part.
        validation: The part.
        training: Logits on some training pictures, not augmented, and their targets.
        labels: Class names in index order.
        names: What each validation picture is called.
        history: What happened while training.

    Returns:
        Temperature, calibration error before and after it, confusions, figures of each class or of
        the hundred worst, the hardest examples with their pictures, and the verdict on overfitting.
    """
    targets = validation.targets
    temperature = figures.fit_temperature(logits, targets)
    given, right = logits.argmax(axis=1), figures.right_answers(logits, targets)
    sure = figures.confidences(logits, temperature=temperature)
    accuracy = figures.accuracy_of(logits, targets)
    train_accuracy = figures.accuracy_of(*training)
    return {
        "samples": len(targets),
        "accuracy": accuracy,
        "macro_f1": figures.macro_f1(logits, targets),
        "temperature": temperature,
        "calibration_error": {
            "before": figures.binned_error(figures.confidences(logits), right),
            "after": figures.binned_error(sure, right),
        },
        **_confusions(logits, targets, labels),
        "num_classes": len(labels),
        "classes": _classes(logits, targets, labels),
        "hardest": _hardest(given, sure, validation, labels=labels, names=names),
        "train_accuracy": train_accuracy,
        "epochs": history.epochs,
        "best_epoch": history.best_epoch,
        "fit": fit_verdict(train_accuracy, accuracy, len(targets), history),
    }


def fit_verdict(
    train_accuracy: float, accuracy: float, samples: int, history: History
) -> dict[str, str]:
    """Say whether a training overfits, and why one thinks so.

    Args:
        train_accuracy: On training pictures, not augmented.
        accuracy: On the validation part.
        samples: Size of the validation part.
        history: What happened while training.

    Returns:
        ``verdict`` (``overfits``, ``underfits``, ``fits``, ``too few to say``) and ``reason``.
    """
    gap = train_accuracy - accuracy
    share = (accuracy * samples + 1) / (samples + 2)  # an accuracy of 1 is not without doubt
    error = math.sqrt(share * (1 - share) / samples)
    seen = (
        f"training pictures {train_accuracy:.3f} right, validation {accuracy:.3f} of {samples}: a "
        f"gap of {gap:.3f}, standard error {error:.3f}"
    )
    losses = [float(row["validation_loss"]) for row in history.epochs]
    risen = losses[-1] > _RISEN_LOSS * min(losses) and len(losses) > 1
    last_is_best = history.best_epoch == len(history.epochs) and not history.stopped_early
    if gap > max(_MIN_GAP, 2 * error):
        more = "; its loss rose after the epoch that was kept" if risen else ""
        advice = "more pictures, stronger augmentation or a smaller model would help"
        return {"verdict": "overfits", "reason": f"{seen}{more}; {advice}"}
    if 2 * error > 0.1:
        return {
            "verdict": "too few to say",
            "reason": f"{seen}; more validation pictures would tell",
        }
    if train_accuracy < _LOW_TRAINING_ACCURACY and last_is_best:
        advice = "the last epoch was the best one: more epochs or a higher rate would help"
        return {"verdict": "underfits", "reason": f"{seen}; {advice}"}
    return {"verdict": "fits", "reason": f"{seen}; that is within chance or small"}


def _confusions(
    logits: figures.Floats, targets: figures.Targets, labels: Sequence[str]
) -> dict[str, Any]:
    """Return the matrix, or the pairs most often confused where it would be too large."""
    given = logits.argmax(axis=1)
    wrong = np.column_stack([targets, given])[given != targets]
    pairs, counts = np.unique(wrong, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:_MOST_PAIRS]
    rows = [
        {
            "right": labels[int(pairs[index, 0])],
            "given": labels[int(pairs[index, 1])],
            "count": int(counts[index]),
        }
        for index in order.tolist()
    ]
    if len(labels) > _MOST_CLASSES:
        return {"confused": rows}
    return {"confusion": figures.confusion(logits, targets), "confused": rows}


def _classes(
    logits: figures.Floats, targets: figures.Targets, labels: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the figures of each class; of too many the worst that were asked for, worst first."""
    rows = figures.class_rows(logits, targets, labels)
    if len(rows) <= _MOST_CLASSES:
        return rows
    return sorted(rows, key=lambda row: (not row["support"], row["f1"]))[:_MOST_CLASSES]


def _hardest(
    given: figures.Targets,
    sure: figures.Floats,
    validation: LabelledImages,
    *,
    labels: Sequence[str],
    names: Sequence[str],
) -> list[dict[str, Any]]:
    """Return the errors that the model was surest of, each with its picture.

    Where there is no error, the right answers that it was least sure of.
    """
    errors = np.flatnonzero(given != validation.targets)
    order = errors[np.argsort(-sure[errors], kind="stable")] if len(errors) else np.argsort(sure)
    rows = []
    for index in order[:_HARDEST].tolist():
        image, _ = validation.take(np.array([index]))
        rows.append(
            {
                "item": names[index],
                "right": labels[int(validation.targets[index])],
                "given": labels[int(given[index])],
                "probability": float(sure[index]),
                "picture": data_uri(image[0].numpy()),
            }
        )
    return rows


def data_uri(image: npt.NDArray[np.uint8]) -> str:
    """Return a picture, uint8 ``(height, width, 3)``, as what a page shows without a file."""
    picture = Image.fromarray(image)
    picture.thumbnail((_PICTURE_SIDE, _PICTURE_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
