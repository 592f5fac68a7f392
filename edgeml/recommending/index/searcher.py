"""The structures that look at few vectors only: lists (IVF) and graphs (HNSW), labelled by slot."""

from __future__ import annotations

import math
from typing import Any

import faiss
import numpy as np

from edgeml.recommending.index.spec import IndexKind, IndexSpec, VectorCode
from edgeml.recommending.index.store import FloatArray, Hits, IntArray, VectorStore

_VECTORS_PER_LIST = 64
_CODE_SAMPLE = 100_000
_ROUNDS = 10
_INNER_PRODUCT = faiss.METRIC_INNER_PRODUCT


def train_searcher(vectors: FloatArray, spec: IndexSpec) -> Any:
    """Return an empty FAISS index with its lists and codes trained, or an empty graph.

    Args:
        vectors: float32 ``(vectors, dimension)``, of which a sample is used.
        spec: What to build; not for ``IndexKind.FLAT``.
    """
    dimension = vectors.shape[1]
    if spec.kind is IndexKind.HNSW:
        graph = faiss.IndexHNSWFlat(dimension, spec.num_links, _INNER_PRODUCT)
        graph.hnsw.efSearch = spec.breadth
        return graph
    index = _empty_lists(dimension, spec)
    sample = np.random.default_rng(spec.seed).permutation(len(vectors))[:_CODE_SAMPLE]
    index.quantizer.add(_centroids(vectors, spec))
    index.train(np.ascontiguousarray(vectors[np.sort(sample)]))
    index.nprobe = spec.num_probes
    return index


def _empty_lists(dimension: int, spec: IndexSpec) -> Any:
    coarse = faiss.IndexFlatIP(dimension)
    if spec.codes is VectorCode.PQ4:
        index = faiss.IndexIVFPQFastScan(
            coarse, dimension, spec.num_lists, dimension // 2, 4, _INNER_PRODUCT
        )
    elif spec.codes is VectorCode.UINT8:
        kind = faiss.ScalarQuantizer.QT_8bit
        index = faiss.IndexIVFScalarQuantizer(
            coarse, dimension, spec.num_lists, kind, _INNER_PRODUCT
        )
    else:
        index = faiss.IndexIVFFlat(coarse, dimension, spec.num_lists, _INNER_PRODUCT)
    index.by_residual = spec.codes is not VectorCode.FLOAT32
    return index


def _centroids(vectors: FloatArray, spec: IndexSpec) -> FloatArray:
    """Cluster on the sphere: lists are compared by inner product, so long ones must not win."""
    clustering = faiss.Kmeans(
        vectors.shape[1],
        spec.num_lists,
        niter=_ROUNDS,
        spherical=True,
        max_points_per_centroid=_VECTORS_PER_LIST,
        min_points_per_centroid=1,
        seed=spec.seed + 1,
    )
    clustering.train(vectors)
    centroids: FloatArray = clustering.centroids
    return centroids


class Searcher:
    """A trained structure over a store's slots.

    Args:
        faiss_index: What ``train_searcher`` gave; its labels are slots.
        store: Where the vectors are, for exact scores.
        spec: How to search.
    """

    def __init__(self, faiss_index: Any, store: VectorStore, spec: IndexSpec) -> None:
        self.faiss_index = faiss_index
        self._spec = spec
        # FAISS's constructor demands equal counts; here slots of removed items stay in the store.
        empty = faiss.IndexFlatIP(store.dimension)
        self._refined = faiss.IndexRefine(empty, empty)
        self._refined.base_index = faiss_index
        self._refined.refine_index = store.faiss_index
        self._store = store

    @property
    def can_remove(self) -> bool:
        """Whether items can be taken out of the structure, and their slots used again.

        Packed lists cannot: FAISS (seen with 1.15.1) takes entries out and leaves their bits,
        which spoil the codes that are added there later.
        """
        return self._spec.kind is IndexKind.IVF and self._spec.codes is not VectorCode.PQ4

    @property
    def size_bytes(self) -> int:
        """Bytes of codes, labels and links, without the store."""
        count, dimension = int(self.faiss_index.ntotal), int(self.faiss_index.d)
        if self._spec.kind is IndexKind.HNSW:
            return count * (4 * dimension + 8 * self._spec.num_links)
        held = count * (int(self.faiss_index.code_size) + 8)
        return held + 4 * dimension * int(self.faiss_index.nlist)

    def emptied(self) -> Any:
        """Return a FAISS index with the same training and nothing in it."""
        if self._spec.kind is IndexKind.HNSW:
            return train_searcher(np.zeros((0, self.faiss_index.d), np.float32), self._spec)
        index = _empty_lists(int(self.faiss_index.d), self._spec)
        centroids = self.faiss_index.quantizer
        index.quantizer.add(centroids.reconstruct_n(0, centroids.ntotal))
        if self._spec.codes is VectorCode.PQ4:
            index.pq = self.faiss_index.pq
        elif self._spec.codes is VectorCode.UINT8:
            index.sq = self.faiss_index.sq
        index.is_trained = True
        index.nprobe = self.faiss_index.nprobe
        return index

    def add(self, slots: IntArray, vectors: FloatArray) -> None:
        """Put vectors in, labelled by slot."""
        if self._spec.kind is IndexKind.HNSW:  # its labels are positions, and so are slots here
            self.faiss_index.add(vectors)
        else:
            self.faiss_index.add_with_ids(vectors, slots)

    def remove(self, slots: IntArray) -> None:
        """Take slots out of their lists."""
        self.faiss_index.remove_ids(faiss.IDSelectorBatch(slots))

    def search(
        self, queries: FloatArray, k: int, *, selector: Any = None, share: float = 1.0
    ) -> Hits:
        """Return the best slots found, -1 where too few were.

        Args:
            queries: float32 ``(queries, dimension)``.
            k: Results.
            selector: A FAISS selector of slots.
            share: Share of the slots that are let through: fewer need more lists.
        """
        if self._spec.kind is IndexKind.HNSW:
            breadth = max(self._spec.breadth, k)
            parameters: Any = faiss.SearchParametersHNSW(efSearch=breadth, sel=selector)
        else:
            probes = min(self._spec.num_lists, round(self._spec.num_probes * _wider(share)))
            parameters = faiss.SearchParametersIVF(nprobe=probes, sel=selector)
        if self._spec.candidates_per_result > 1:
            parameters = faiss.IndexRefineSearchParameters(
                k_factor=self._spec.candidates_per_result * share**-0.15,
                base_index_params=parameters,
            )
            self._refined.ntotal = self._store.num_slots
            scores, slots = self._refined.search(queries, k, params=parameters)
        else:
            scores, slots = self.faiss_index.search(queries, k, params=parameters)
        return scores, slots


def _wider(share: float) -> float:
    """How many times more lists to read when only a share of the items counts.

    The results then reach further down the ranking, and so further from the query. Fitted to the
    lists that keep the recall at shares of 0.5 to 0.01 (docs/results/recommender-index.md).
    """
    return 1 - 2.2 * math.log(share)
