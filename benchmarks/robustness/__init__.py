"""A real server under bad requests, restarts and time: ``python -m benchmarks.robustness``."""
