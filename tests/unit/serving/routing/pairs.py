"""A scripted server and a scripted edge with a fallback around them."""

from __future__ import annotations

from edgeml.serving.routing.fallback import fallback
from edgeml.serving.routing.fallback_settings import FallbackSettings
from tests.unit.serving.routing import scripted
from tests.unit.serving.routing.scripted import PICTURE, values

QUICK = {
    "cut_over_s": 0.1,
    "deadline_s": 0.15,
    "probe_every_s": 0.05,
    "probe_timeout_s": 0.1,
    "retry_pause_s": 0.001,
}


class Pair:
    """A server and an edge with a fallback around them."""

    def __init__(self, policy="allowed", check=None, **settings):
        self.server, self.edge = scripted.server(), scripted.edge()
        self.predictor = fallback(
            self.server.predictor,
            self.edge.predictor,
            policy=policy,
            settings=FallbackSettings(**{**QUICK, **settings}),
            check=check,
        )

    def calls(self):
        return values(self.predictor.metrics_text(), "fallback_calls_total")

    def metric(self, name):
        return values(self.predictor.metrics_text(), f"fallback_{name}")

    def state(self):
        return next(key for key, value in self.metric("breaker_state").items() if value)

    def ask(self):
        return self.predictor.predict(PICTURE).served_by
