"""Which items a search may return: made for one request, or prepared once for many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from edgeml.recommending.index.searcher import Searcher
from edgeml.recommending.index.store import IntArray


@dataclass(frozen=True, kw_only=True)
class ItemFilter:
    """The slots that a search may return, for one state of one index.

    Attributes:
        slots: int64 ``(allowed,)``, ascending.
        share: Allowed slots over the index's live ones.
        selector: The same as a bitmap, for FAISS.
        generation: State of the index that the filter belongs to.
        subset: A flat index of the allowed vectors, labels being positions in ``slots``, or
            None.
        searcher: Lists of the allowed vectors alone, or None.
    """

    slots: IntArray
    share: float
    selector: Any
    generation: int
    subset: Any = None
    searcher: Searcher | None = None

    @property
    def prepared(self) -> bool:
        """Whether the allowed vectors were gathered beforehand."""
        return self.subset is not None or self.searcher is not None

    @property
    def size_bytes(self) -> int:
        """Bytes held by the filter."""
        held = self.slots.nbytes
        if self.subset is not None:
            held += int(self.subset.ntotal) * 4 * int(self.subset.d)
        if self.searcher is not None:
            held += self.searcher.size_bytes
        return held


def bitmap_of(slots: IntArray, num_slots: int) -> Any:
    """Return a FAISS selector that lets these slots through."""
    mask = np.zeros(num_slots, dtype=np.bool_)
    mask[slots] = True
    return faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
