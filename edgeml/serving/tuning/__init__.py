"""Which settings serve a model best: measured on the real server."""
