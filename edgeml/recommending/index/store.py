"""The vectors themselves, by slot: exact scores, filters, and the source of every re-coding.

A slot is a row that stays the item's for as long as it lives; a removed item's slot is written
over by the next one. FAISS holds the bytes, so that its searches and ours read the same ones.
"""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from edgeml.recommending.index.spec import VectorCode

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
Hits = tuple[FloatArray, IntArray]


class VectorStore:
    """Vectors by slot, compared exhaustively.

    Args:
        faiss_index: A trained flat index, of float32 or of one byte a dimension.
    """

    def __init__(self, faiss_index: Any) -> None:
        self.faiss_index = faiss_index
        self._bytewise = isinstance(faiss_index, faiss.IndexScalarQuantizer)
        if self._bytewise:
            ranges = faiss.vector_to_array(faiss_index.sq.trained).reshape(2, -1)
            self._low, self._step = ranges[0], ranges[1] / 255

    @classmethod
    def trained(cls, vectors: FloatArray, code: VectorCode) -> VectorStore:
        """Return an empty store whose byte code, if any, fits the range of these vectors."""
        dimension = vectors.shape[1]
        if code is VectorCode.FLOAT32:
            return cls(faiss.IndexFlatIP(dimension))
        index = faiss.IndexScalarQuantizer(
            dimension, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        )
        index.train(vectors)
        return cls(index)

    @property
    def num_slots(self) -> int:
        """Slots, those of removed items included."""
        return int(self.faiss_index.ntotal)

    @property
    def dimension(self) -> int:
        """Dimension of the vectors."""
        return int(self.faiss_index.d)

    @property
    def size_bytes(self) -> int:
        """Bytes of the codes."""
        return self.num_slots * int(self.faiss_index.sa_code_size())

    def append(self, vectors: FloatArray) -> IntArray:
        """Add vectors in new slots and return these, int64 ``(vectors,)``."""
        first = self.num_slots
        self.faiss_index.add(vectors)
        return np.arange(first, first + len(vectors), dtype=np.int64)

    def overwrite(self, slots: IntArray, vectors: FloatArray) -> None:
        """Put other vectors into existing slots."""
        self._codes()[slots] = self.faiss_index.sa_encode(vectors)

    def take(self, slots: IntArray) -> FloatArray:
        """Return the vectors as the store knows them, float32 ``(slots, dimension)``."""
        codes = self._codes()[slots]
        if not self._bytewise:
            return codes.view(np.float32)
        # Far quicker than FAISS's own reconstruct_batch, and the same: the middle of each step.
        vectors: FloatArray = (codes.astype(np.float32) + 0.5) * self._step + self._low
        return vectors

    def search(self, queries: FloatArray, k: int, *, selector: Any = None) -> Hits:
        """Compare with every slot, or with those that the selector lets through."""
        parameters = None if selector is None else faiss.SearchParameters(sel=selector)
        scores, slots = self.faiss_index.search(queries, k, params=parameters)
        return scores, slots

    def search_slots(self, queries: FloatArray, k: int, slots: IntArray) -> Hits:
        """Compare with a few slots, given by number; ``k`` is at most their number."""
        if not self._bytewise:
            return self.search(queries, k, selector=faiss.IDSelectorArray(slots))
        # The same product as with decoded vectors, without decoding them.
        base = queries @ (self._low + self._step / 2)
        scores = (queries * self._step) @ self._codes()[slots].astype(np.float32).T + base[:, None]
        best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        values = np.take_along_axis(scores, best, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        return np.take_along_axis(values, order, axis=1), slots[
            np.take_along_axis(best, order, axis=1)
        ]

    def _codes(self) -> npt.NDArray[np.uint8]:
        """A view of FAISS's own bytes, uint8 ``(slots, code size)``."""
        codes = self.faiss_index.codes
        view: npt.NDArray[np.uint8] = faiss.rev_swig_ptr(codes.data(), codes.size())
        return view.reshape(self.num_slots, int(self.faiss_index.sa_code_size()))
