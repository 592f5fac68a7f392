"""NVIDIA's perf_analyzer beside our own client: ``python -m benchmarks.perf_analyzer``."""
