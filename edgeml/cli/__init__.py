"""The command line: argparse and rich, one file a verb, each a thin skin over a workflow."""

from edgeml.cli.main import fail, main

__all__ = ["fail", "main"]
