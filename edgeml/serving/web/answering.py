"""From items to answers as JSON values, with the time that each stage took."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeml.core.predictor import Prediction, Predictor
from edgeml.errors import EdgemlError
from edgeml.serving.web.forms import Asked, Form, read_request
from edgeml.serving.web.refusals import line_of
from edgeml.tasks.predictor import Task


@dataclass(frozen=True, kw_only=True)
class Answered:
    """An answer's JSON values, and milliseconds by stage."""

    value: dict[str, Any]
    stages_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Answerer:
    """Answers requests of one bundle.

    Attributes:
        predictor: What answers.
        task: Its pre- and post-processing, so that the stages can be timed apart.
        form: How items arrive.
        max_items: Items of a batch.
    """

    predictor: Predictor
    task: Task
    form: Form
    max_items: int

    def answer(self, body: bytes, kind: str) -> Answered:
        """Read a request's body and answer it.

        Raises:
            EdgemlError: The request cannot be read, or its one item cannot be answered. In a batch
                that costs the item its answer, and nobody else.
        """
        begun = time.perf_counter()
        asked = read_request(self.form, body, kind, max_items=self.max_items)
        if asked.batch:
            return self._batch(asked, begun)
        prepared = self.task.prepare(asked.items[0])
        feed = self.task.collate([prepared])
        ready = time.perf_counter()
        outputs = self.predictor.run(feed)
        run = time.perf_counter()
        row = self.task.interpret(outputs, served_by=self.predictor.served_by)[0]
        value = to_json(row, truncated=self.task.is_truncated(prepared))
        done = time.perf_counter()
        return Answered(
            value=value,
            stages_ms={
                "decode": 1e3 * (ready - begun),
                "infer": 1e3 * (run - ready),
                "postprocess": 1e3 * (done - run),
            },
        )

    def _batch(self, asked: Asked, begun: float) -> Answered:
        rows = list(asked.items)
        places = [at for at, item in enumerate(rows) if not isinstance(item, EdgemlError)]
        answers = self.predictor.predict_batch([rows[at] for at in places], on_error="return")
        for at, answer in zip(places, answers, strict=True):
            rows[at] = answer
        value = {
            "predictions": [
                {"error": line_of(row)} if isinstance(row, EdgemlError) else to_json(row)
                for row in rows
            ]
        }
        return Answered(value=value, stages_ms={"batch": 1e3 * (time.perf_counter() - begun)})


def to_json(row: Prediction, *, truncated: bool = False) -> dict[str, Any]:
    """Return a prediction as JSON values."""
    if row.outputs is not None:
        outputs = {name: array.tolist() for name, array in row.outputs.items()}
        return {"outputs": outputs, "served_by": row.served_by}
    return {
        "label": row.label,
        "score": row.score,
        "scores": dict(row.scores),
        "labels": list(row.labels),
        "truncated": row.truncated or truncated,
        "served_by": row.served_by,
    }
