"""The alerts that operators are given speak of metrics that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from edgeml.serving.routing.fallback_metrics import FallbackMetrics
from edgeml.serving.routing.metrics import Metrics

RULES = Path("docs/alerts/failover.rules.yml")
MATCHER = re.compile(r"(?P<name>edgeml_\w+)(\{(?P<labels>[^}]*)\})?")


def rules():
    (group,) = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return group["rules"]


@pytest.fixture(scope="module")
def declared():
    """Name of each series, to the labels that it may carry."""
    metrics = Metrics(model="m")
    made = FallbackMetrics(metrics)
    made.hedges.labels("denied")
    made.latency.labels("edge").observe(0.1)
    found: dict[str, set[str]] = {}
    for line in metrics.text().splitlines():
        row = re.match(r"(\w+)\{(.*)\} ", line)
        if row:
            found.setdefault(row[1], set()).update(re.findall(r"(\w+)=", row[2]))
    return found


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_names_metrics_and_labels_that_are_declared(rule, declared):
    names = list(MATCHER.finditer(rule["expr"]))
    assert names
    for found in names:
        assert found["name"] in declared
        asked = re.findall(r"(\w+)\s*[=!]", found["labels"] or "")
        assert set(asked) <= declared[found["name"]]
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"]
