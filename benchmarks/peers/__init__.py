"""Our text path beside its peers on one checkpoint: ``make bench-peers``.

Each peer is a process in an environment of its own; the parent sends it sentences and compares what
comes back. What this package refuses to do: let one peer's failure hide another's figures, or print
a figure for a peer that failed.
"""
