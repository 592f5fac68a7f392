"""The health of a served model: golden values, not readiness."""

from __future__ import annotations

import numpy as np

from edgeml.core.bundle import Bundle, Check, Golden
from edgeml.core.signature import Tensors
from edgeml.serving.client.engine import TritonEngine
from edgeml.serving.client.image_task import ServedImageTask
from edgeml.serving.client.text_task import ServedTextTask
from edgeml.serving.repository.contract import labels_of
from edgeml.tasks.predictor import Task


def check_golden(engine: TritonEngine, bundle: Bundle) -> Check:
    """Send golden tensors, or texts, to a server and compare the answers with the bundle's.

    This is the check of a server's health: readiness only says that a model was loaded.

    Args:
        engine: The server.
        bundle: The bundle that was published to it.

    Returns:
        Whether every answer is within the tolerance of the variant that the server runs.

    Raises:
        IntegrityError: The bundle's golden files are damaged.
        ServerError: The server failed.
    """
    name = f"golden values through {engine.served_by}"
    variant = engine.variant
    ours, theirs = bundle.manifest.variant(variant), engine.contract["variants"].get(variant)
    if ours is None or theirs is None or ours.sha256 != theirs["sha256"]:
        detail = f"the server runs another '{variant}' than this bundle holds; publish the bundle"
        return Check(name=name, ok=False, detail=detail)
    golden = bundle.golden()
    if variant not in golden.outputs:
        return Check(name=name, ok=False, detail=f"the bundle has no golden values of '{variant}'")
    answers = engine.run(_feed_of(engine, bundle, golden))
    worst = 0.0
    for output, expected in golden.outputs[variant].items():
        if output not in answers or answers[output].shape != expected.shape:
            return Check(name=name, ok=False, detail=f"the output '{output}' has another shape")
        difference = np.abs(answers[output].astype(np.float64) - expected.astype(np.float64))
        # NaN compares as false with everything, so it is made to count as the largest difference.
        worst = max(worst, float(np.nan_to_num(difference, nan=np.inf).max(initial=0.0)))
    tolerance = golden.tolerance[variant]
    detail = f"largest difference {worst:.3g}, {tolerance:.3g} allowed"
    return Check(name=name, ok=worst <= tolerance, detail=detail)


def _feed_of(engine: TritonEngine, bundle: Bundle, golden: Golden) -> Tensors:
    labels = labels_of(engine.contract)
    if not (engine.takes_text or engine.takes_files):
        return golden.tensors
    task: Task = ServedTextTask(labels) if engine.takes_text else ServedImageTask(labels)
    return task.collate([task.decode_golden(bundle.open_file(path)) for path in golden.inputs])
