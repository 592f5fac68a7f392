"""When enough samples have been seen: a sequential test of one candidate's accuracy drop.

Looking again and again at growing data finds false differences: the level is divided among the
looks (Bonferroni), so that all of them together keep it. A candidate is clearly out when even the
lower bound of its drop exceeds the limit, clearly in when the upper bound is within it.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt

from edgeml.core.paired import tango_upper_bound

Decision = Literal["in", "out", "open"]

_FIRST_LOOK = 256
_LEVEL = 0.05


def looks(num_samples: int) -> list[int]:
    """Return after how many samples to look: doubling, the last one after all."""
    counts, count = [], _FIRST_LOOK
    while count < num_samples:
        counts.append(count)
        count *= 2
    return [*counts, num_samples]


def decide(
    reference_right: npt.NDArray[np.bool_],
    candidate_right: npt.NDArray[np.bool_],
    *,
    limit: float,
    num_looks: int,
) -> Decision:
    """Decide on the samples seen so far.

    Args:
        reference_right: bool ``(samples,)``.
        candidate_right: bool ``(samples,)``.
        limit: Largest drop allowed, a fraction.
        num_looks: Looks of the whole test.

    Example:
        >>> right = np.ones(1000, dtype=bool)
        >>> decide(right, np.zeros(1000, dtype=bool), limit=0.005, num_looks=3)
        'out'
    """
    z = NormalDist().inv_cdf(1 - _LEVEL / num_looks)
    count = len(reference_right)
    lost = int(np.sum(reference_right & ~candidate_right))
    gained = int(np.sum(~reference_right & candidate_right))
    if -tango_upper_bound(gained, lost, count, z=z) > limit:
        return "out"
    return "in" if tango_upper_bound(lost, gained, count, z=z) <= limit else "open"
