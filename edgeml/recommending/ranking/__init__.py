"""Rank the candidates of a request with an engine that is passed in."""

from edgeml.recommending.ranking.ranker import Ranker

__all__ = ["Ranker"]
