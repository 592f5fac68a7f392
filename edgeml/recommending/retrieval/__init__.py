"""Retrieval models as they answer requests: numpy only, for known users and for bare histories."""
