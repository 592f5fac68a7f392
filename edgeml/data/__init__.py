"""Data sets by name or by folder, and tables, from sources that are verified and reported."""
