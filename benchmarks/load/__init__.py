"""The load engine against tools that are trusted, and against servers whose behaviour is known.

``python -m benchmarks.load``. The machine must be quiet.
"""
