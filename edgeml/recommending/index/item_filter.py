"""Which items a search may return: made for one request, or prepared once for many."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from edgeml.recommending.index.searcher import Searcher
from edgeml.recommending.index.store import IntArray


@dataclass(frozen=True, kw_only=True)
class ItemFilter:
    """The slots that a search may return, for one state of one index.

    Attributes:
        mask: bool ``(slots,)``: live slots that are allowed.
        count: How many these are.
        share: Of the index's live slots.
        generation: State of the index that the filter belongs to.
        subset: A flat index of the allowed vectors, labels being positions in ``slots``, or
            None.
        searcher: Lists of the allowed vectors alone, or None.
    """

    mask: npt.NDArray[np.bool_]
    count: int
    share: float
    generation: int
    subset: Any = None
    searcher: Searcher | None = None

    @cached_property
    def slots(self) -> IntArray:
        """The allowed slots, int64 ``(count,)``, ascending."""
        return np.flatnonzero(self.mask)

    @cached_property
    def selector(self) -> Any:
        """The mask as FAISS takes it."""
        return bitmap_of(self.mask)

    @property
    def prepared(self) -> bool:
        """Whether the allowed vectors were gathered beforehand."""
        return self.subset is not None or self.searcher is not None

    @property
    def size_bytes(self) -> int:
        """Bytes held by the filter."""
        held = self.mask.nbytes + self.slots.nbytes
        if self.subset is not None:
            held += int(self.subset.ntotal) * 4 * int(self.subset.d)
        if self.searcher is not None:
            held += self.searcher.size_bytes
        return held


def bitmap_of(mask: npt.NDArray[np.bool_]) -> Any:
    """Return a FAISS selector that lets the true slots through."""
    return faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
