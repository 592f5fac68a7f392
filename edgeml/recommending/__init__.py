"""Recommenders at run time: retrieval, ranking, re-ranking and their evaluation, without torch."""
