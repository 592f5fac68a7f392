"""The command line: argparse and rich, one file a verb, each a thin skin over a workflow."""

from edgeml.cli.main import LineParser, guarded, main

__all__ = ["LineParser", "guarded", "main"]
