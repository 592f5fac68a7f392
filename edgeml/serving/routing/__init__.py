"""Predictors around predictors: who answers a call, decided anew for each."""

from edgeml._optional import require

require("prometheus_client", extra="routing")
