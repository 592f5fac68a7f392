"""``python -m edgeml``."""

from edgeml.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
