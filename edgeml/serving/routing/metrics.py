"""What a routed predictor counts, in the words of Prometheus: a registry for each, nothing global.

A part declares its metrics as fields of one small class, made from a :class:`Metrics`::

    class LimitMetrics:
        def __init__(self, metrics: Metrics) -> None:
            self.calls = metrics.counter("limit_calls", "Calls, by outcome.", "outcome")

    metrics = Metrics(model="clothing")
    LimitMetrics(metrics).calls.labels("admitted").inc()
    metrics.text()

Each series carries the label ``model`` besides, and ``part``: empty, or the place of a predictor
inside another. To show them beside those of a program's own
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
        ['edgeml_answers_total{by="edge",model="clothing",part=""} 1.0']
    """

    def __init__(self, *, model: str = "") -> None:
        self.model = model
        self._own = CollectorRegistry()
        self._collector = _Labelled(self._own, model)
        self.registry = CollectorRegistry()
        self.registry.register(self._collector)

    def counter(self, name: str, help_text: str, *labels: str) -> Counter:
        """Declare something that only grows; ``_total`` is put behind the name."""
        return Counter(PREFIX + name, help_text, labels, registry=self._own)

    def gauge(self, name: str, help_text: str, *labels: str) -> Gauge:
        """Declare something that goes up and down."""
        return Gauge(PREFIX + name, help_text, labels, registry=self._own)

    def histogram(
        self,
        name: str,
        help_text: str,
        *labels: str,
        buckets: Sequence[float] = LATENCY_BUCKETS_S,
    ) -> Histogram:
        """Declare a distribution; of times, in seconds, unless the buckets say otherwise."""
        return Histogram(PREFIX + name, help_text, labels, registry=self._own, buckets=buckets)

    def join(self, inner: Metrics, *, part: str = "inner") -> None:
        """Show the metrics of a predictor inside this one as well.

        Args:
            inner: Its metrics.
            part: Its place: the value of their label ``part``.
        """
        self._collector.parts.append((part, inner._collector))

    def text(self) -> str:
        """Return everything as OpenMetrics text."""
        text: bytes = generate_latest(self.registry)  # type: ignore[no-untyped-call]
        return text.decode()


class _Labelled:
    """A collector that puts ``model`` and ``part`` on every series, and joins those of its parts.

    A family of metrics stands once in a text, however many predictors have it.
    """

    def __init__(self, registry: CollectorRegistry, model: str) -> None:
        self._registry = registry
        self._model = model
        self.parts: list[tuple[str, _Labelled]] = []

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        for family in self._rows(""):
            if family.name in families:
                families[family.name].samples.extend(family.samples)
            else:
                families[family.name] = family
        return families.values()

    def _rows(self, part: str) -> Iterable[Metric]:
        for family in self._registry.collect():
            more = {"model": self._model, "part": part}
            family.samples = [row._replace(labels={**row.labels, **more}) for row in family.samples]
            yield family
        for name, inner in self.parts:
            yield from inner._rows(f"{part}/{name}" if part else name)
