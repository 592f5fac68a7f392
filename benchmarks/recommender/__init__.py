"""Peers and scale of the recommender, each module a command."""
