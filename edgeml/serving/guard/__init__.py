"""A proxy before a server, which refuses what would kill it."""
