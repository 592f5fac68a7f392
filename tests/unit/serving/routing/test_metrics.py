"""Metrics: text that others can read, a registry for each predictor, parts in their place."""

from __future__ import annotations

import io

from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_fd_to_metric_families

from edgeml.serving.routing.metrics import Metrics
from tests.unit.serving.routing.pairs import Pair


def families(text):
    return {family.name: family for family in text_fd_to_metric_families(io.StringIO(text))}


def test_a_fallbacks_text_is_openmetrics(pair):
    both: Pair = pair(hedge_after_s=0.05)
    both.ask()
    both.server.state = "error"
    both.ask()
    found = families(both.predictor.metrics_text())
    assert found["edgeml_fallback_calls"].type == "counter"
    assert found["edgeml_fallback_latency_seconds"].type == "histogram"
    assert {row.labels["model"] for row in found["edgeml_fallback_calls"].samples} == {"m"}


def test_two_predictors_of_a_program_do_not_know_each_other():
    one, other = Metrics(model="a"), Metrics(model="b")
    for metrics in (one, other):
        metrics.counter("answers", "Answers.", "by").labels(metrics.model).inc()
    assert 'model="b"' not in one.text()


def test_a_programs_own_registry_can_show_them():
    metrics = Metrics(model="a")
    metrics.counter("answers", "Answers.").inc(3)
    theirs = CollectorRegistry(auto_describe=True)
    theirs.register(metrics.registry)
    assert theirs.get_sample_value("edgeml_answers_total", {"model": "a", "part": ""}) == 3


def test_a_family_of_several_parts_stands_once():
    outer, middle, inner = Metrics(model="a"), Metrics(model="a"), Metrics(model="a")
    for number, metrics in enumerate((outer, middle, inner)):
        metrics.counter("answers", "Answers.").inc(number + 1)
    middle.join(inner, part="server")
    outer.join(middle, part="edge")
    (family,) = families(outer.text()).values()
    found = {row.labels["part"]: row.value for row in family.samples if "created" not in row.name}
    assert found == {"": 1, "edge": 2, "edge/server": 3}
