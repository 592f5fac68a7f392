"""What a routed predictor counts, in the words of Prometheus: a registry for each, nothing global.

A part declares its metrics as fields of one small class, made from a :class:`Metrics`::

    class LimitMetrics:
        def __init__(self, metrics: Metrics) -> None:
            self.calls = metrics.counter("limit_calls", "Calls, by outcome.", "outcome")

    metrics = Metrics(model="clothing")
    LimitMetrics(metrics).calls.labels("admitted").inc()
    metrics.text()

Each series carries the label ``model`` besides. To show them beside those of a program's own
registry: ``prometheus_client.REGISTRY.register(predictor.metrics.registry)``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest

PREFIX = "edgeml_"
CONTENT_TYPE = CONTENT_TYPE_LATEST
# Around a cut-over of 300 ms, and down to what a small model takes on a device.
LATENCY_BUCKETS_S = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5),
    *(0.75, 1.0, 2.5, 5.0, 10.0),
)


class Metrics:
    """The metrics of one predictor.

    Args:
        model: Whom they are about: the value of each series' label ``model``.

    Example:
        >>> metrics = Metrics(model="clothing")
        >>> metrics.counter("answers", "Answers, by who gave them.", "by").labels("edge").inc()
        >>> [row for row in metrics.text().splitlines() if "_total" in row]
        ['edgeml_answers_total{by="edge",model="clothing"} 1.0']
    """

    def __init__(self, *, model: str = "") -> None:
        self.model = model
        self._inner = CollectorRegistry()
        self.registry = CollectorRegistry()
        self.registry.register(_WithModel(self._inner, model))

    def counter(self, name: str, help_text: str, *labels: str) -> Counter:
        """Declare something that only grows; ``_total`` is put behind the name."""
        return Counter(PREFIX + name, help_text, labels, registry=self._inner)

    def gauge(self, name: str, help_text: str, *labels: str) -> Gauge:
        """Declare something that goes up and down."""
        return Gauge(PREFIX + name, help_text, labels, registry=self._inner)

    def histogram(
        self,
        name: str,
        help_text: str,
        *labels: str,
        buckets: Sequence[float] = LATENCY_BUCKETS_S,
    ) -> Histogram:
        """Declare a distribution; of times, in seconds, unless the buckets say otherwise."""
        return Histogram(PREFIX + name, help_text, labels, registry=self._inner, buckets=buckets)

    def join(self, inner: Metrics) -> None:
        """Show the metrics of a predictor inside this one as well.

        Raises:
            ValueError: They have the names of metrics that are here already.
        """
        self.registry.register(_WithModel(inner._inner, inner.model))

    def text(self) -> str:
        """Return everything as OpenMetrics text."""
        text: bytes = generate_latest(self.registry)  # type: ignore[no-untyped-call]
        return text.decode()


class _WithModel:
    """A collector that puts the label ``model`` on every series of a registry."""

    def __init__(self, registry: CollectorRegistry, model: str) -> None:
        self._registry = registry
        self._model = model

    def collect(self) -> Iterable[Metric]:
        for family in self._registry.collect():
            family.samples = [
                row._replace(labels={**row.labels, "model": self._model}) for row in family.samples
            ]
            yield family
