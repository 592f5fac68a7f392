"""Load generation: scenarios, a generator in its own process, validity, percentiles, a queue model.

Knows predictors and plain callables, never a runtime or a server's library: what is measured is
named by a :class:`~edgeml.bench.targets.TargetSpec` and made in the generator's process. Behind
the extra ``[bench]``.
"""

from edgeml._optional import require

require("hdrh", extra="bench")
