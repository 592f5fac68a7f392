"""Training of retrieval models and rankers, in torch."""
