"""The index against exhaustive search in numpy: kinds, filters, adding, removing, the version."""

import json
from dataclasses import replace

import numpy as np
import pytest

from edgeml.errors import BundleError, InputError, IntegrityError
from edgeml.recommending.index.choosing import candidates_for, choose_spec, recall_of
from edgeml.recommending.index.item_index import ItemIndex
from edgeml.recommending.index.spec import (
    IndexKind,
    IndexSpec,
    VectorCode,
    num_lists_for,
    spec_for,
)
from edgeml.recommending.index.storing import load_index, save_index

COUNT, DIMENSION, K = 3_000, 16, 20
IVF = IndexSpec(
    kind=IndexKind.IVF,
    stored=VectorCode.UINT8,
    num_lists=16,
    num_probes=10,
    candidates_per_result=4.0,
    exact_below=100,
)
SPECS = {
    "flat": IndexSpec(kind=IndexKind.FLAT),
    "flat-uint8": IndexSpec(kind=IndexKind.FLAT, stored=VectorCode.UINT8),
    "ivf-float32": IVF,
    "ivf-uint8": replace(IVF, codes=VectorCode.UINT8),
    "ivf-pq4": replace(IVF, codes=VectorCode.PQ4),
    "hnsw": IndexSpec(kind=IndexKind.HNSW, num_links=16, breadth=120, exact_below=100),
}
# Byte codes and lists lose a little; whatever loses more is broken.
LEAST_RECALL = 0.93


def directions(count, seed):
    centres = np.random.default_rng(7).standard_normal((30, DIMENSION))
    rng = np.random.default_rng(seed)
    vectors = centres[rng.integers(0, 30, count)] + 0.7 * rng.standard_normal((count, DIMENSION))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


VECTORS, QUERIES = directions(COUNT, 1), directions(30, 2)
IDS = np.random.default_rng(3).permutation(np.arange(100, 100 + COUNT)).astype(np.int64)


def exact(vectors, ids, allowed=None, k=K):
    keep = np.ones(len(ids), bool) if allowed is None else allowed[ids]
    order = np.argsort(-QUERIES @ vectors[keep].T, axis=1, kind="stable")[:, :k]
    return ids[keep][order]


@pytest.fixture(params=SPECS)
def index(request):
    return ItemIndex.build(VECTORS, ids=IDS, spec=SPECS[request.param], version="a")


@pytest.mark.parametrize("share", [1.0, 0.3, 0.01])
def test_finds_what_exhaustive_search_finds(index, share):
    allowed = np.random.default_rng(4).random(5_000) < share
    found = index.search(QUERIES, K, allowed=None if share == 1 else allowed)
    wanted = exact(VECTORS, IDS, None if share == 1 else allowed)
    assert recall_of(found.ids, wanted) >= LEAST_RECALL
    assert (np.diff(found.scores, axis=1) <= 1e-6).all()
    if share < 1:
        assert allowed[found.ids].all()


def test_a_prepared_filter_finds_what_the_mask_finds(index):
    allowed = np.random.default_rng(5).random(5_000) < 0.2
    given = index.search(QUERIES, K, allowed=allowed).ids
    prepared = index.search(QUERIES, K, allowed=index.prepare(allowed)).ids
    assert recall_of(prepared, given) >= LEAST_RECALL
    assert allowed[prepared].all()


def test_ids_are_a_filter_too_and_unknown_ones_are_ignored(index):
    some = IDS[:7]
    found = index.search(QUERIES, K, allowed=np.append(some, 999_999))
    assert set(found.ids[0]) == {*some.tolist(), -1}
    assert np.isneginf(found.scores[:, 7:]).all()


def test_a_filter_that_leaves_nothing_gives_empty_places(index):
    found = index.search(QUERIES, K, allowed=np.zeros(5_000, bool))
    assert (found.ids == -1).all()
    prepared = index.prepare(np.zeros(5_000, bool))
    assert (index.search(QUERIES, K, allowed=prepared).ids == -1).all()


def test_never_short_while_items_are_left(index):
    """Filters that leave items in lists which are not read: everything is compared then."""
    allowed = np.zeros(5_000, bool)
    allowed[exact(VECTORS, IDS, k=COUNT)[0, -200:]] = True  # the farthest from the first query
    found = index.search(QUERIES[:1], 200, allowed=allowed)
    assert set(found.ids[0]) == set(np.flatnonzero(allowed))


def test_after_churn_it_is_as_good_as_built_anew(index):
    gone, come = IDS[: COUNT // 5], np.arange(9_000, 9_000 + COUNT // 5)
    fresh = directions(COUNT // 5, 6)
    index.remove(gone)
    index.add(come, fresh)
    ids = np.concatenate([IDS[COUNT // 5 :], come])
    vectors = np.concatenate([VECTORS[COUNT // 5 :], fresh])
    allowed = np.random.default_rng(8).random(12_000) < 0.3
    assert index.size == COUNT
    for given in (None, allowed):
        found = index.search(QUERIES, K, allowed=given).ids
        assert not np.isin(found, gone).any()
        anew = ItemIndex.build(vectors, ids=ids, spec=index.spec)
        wanted = exact(vectors, ids, given)
        least = recall_of(anew.search(QUERIES, K, allowed=given).ids, wanted) - 0.02
        assert recall_of(found, wanted) >= least
    index.compact()
    assert index.num_tombstones == 0
    assert index.alive.all()
    assert recall_of(index.search(QUERIES, K).ids, exact(vectors, ids)) >= LEAST_RECALL - 0.02


def test_tombstones_are_compacted_when_they_are_many(index):
    index.remove(IDS[: COUNT // 10])
    assert index.num_tombstones in (0, COUNT // 10)
    index.remove(IDS[COUNT // 10 : COUNT // 4])
    assert index.num_tombstones == 0
    assert index.size == COUNT - COUNT // 4


def test_a_filter_of_another_state_is_refused(index):
    prepared = index.prepare(IDS[:500])
    index.remove(IDS[:1])
    with pytest.raises(InputError, match="prepare it again"):
        index.search(QUERIES, K, allowed=prepared)


def test_saved_and_loaded_it_answers_the_same_and_goes_on(index, tmp_path):
    index.remove(IDS[:50])
    save_index(index, tmp_path)
    loaded = load_index(tmp_path, version="a")
    np.testing.assert_array_equal(loaded.search(QUERIES, K).ids, index.search(QUERIES, K).ids)
    loaded.add(np.array([7]), QUERIES[:1])
    assert loaded.search(QUERIES[:1], 1).ids.tolist() == [[7]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.json", "index.npz"]


def test_an_index_of_another_version_or_other_bytes_is_refused(tmp_path):
    save_index(ItemIndex.build(VECTORS, version="a"), tmp_path)
    with pytest.raises(IntegrityError, match="'a' and the model is of version 'b'"):
        load_index(tmp_path, version="b")
    data = bytearray((tmp_path / "index.npz").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "index.npz").write_bytes(data)
    with pytest.raises(IntegrityError, match="not those that were saved"):
        load_index(tmp_path, version="a")


@pytest.mark.parametrize(
    "change", [{"format": 2}, {"spec": {"kind": "tree"}}, {"spec": {}}, "not JSON", None]
)
def test_files_that_are_no_index_are_refused(tmp_path, change):
    save_index(ItemIndex.build(VECTORS, version="a"), tmp_path)
    path = tmp_path / "index.json"
    if change is None:
        path.unlink()
    elif isinstance(change, str):
        path.write_text(change)
    else:
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(BundleError):
        load_index(tmp_path, version="a")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda index: index.search(QUERIES, 0), "at least 1"),
        (lambda index: index.search(QUERIES[:, :3], 1), r"\(rows, 16\)"),
        (lambda index: index.search(np.full((1, DIMENSION), np.nan), 1), "NaN"),
        (lambda index: index.search(QUERIES, 1, allowed=np.array([0.5])), "bool mask"),
        (lambda index: index.add(IDS[:1], QUERIES[:1]), "in the index already"),
        (lambda index: index.add(np.array([1, 1]), QUERIES[:2]), "repeated"),
        (lambda index: index.add(np.array([-1]), QUERIES[:1]), "negative"),
        (lambda index: index.add(np.array([1]), QUERIES[:2]), "ids"),
        (lambda index: index.remove(np.array([1])), "not in the index"),
    ],
)
def test_what_does_not_fit_is_refused(call, words):
    with pytest.raises(InputError, match=words):
        call(ItemIndex.build(VECTORS, ids=IDS))


def test_impossible_specifications_are_refused():
    with pytest.raises(InputError, match="probes"):
        IndexSpec(kind=IndexKind.IVF, num_lists=4, num_probes=5)
    with pytest.raises(InputError, match="links"):
        IndexSpec(kind=IndexKind.HNSW)
    with pytest.raises(InputError, match="pq4 only"):
        IndexSpec(kind=IndexKind.FLAT, stored=VectorCode.PQ4)
    with pytest.raises(InputError, match="at least one"):
        ItemIndex.build(np.zeros((0, 4), np.float32))


def test_a_choice_keeps_the_recall_and_the_memory():
    choice = choose_spec(VECTORS, QUERIES, k=K, min_recall=0.9)
    assert {row.spec.kind for row in choice.rows} == set(IndexKind)
    chosen = next(row for row in choice.rows if row.spec == choice.spec)
    assert chosen.recall >= 0.9
    assert not chosen.reason
    assert all(row.reason for row in choice.rows if row is not chosen)
    small = choose_spec(VECTORS, QUERIES, k=K, min_recall=0.5, max_size_bytes=COUNT * 45)
    assert small.spec.stored is VectorCode.UINT8
    with pytest.raises(InputError, match="no index"):
        choose_spec(VECTORS, QUERIES, k=K, max_size_bytes=10, candidates=[SPECS["flat"]])


def test_size_decides_where_nothing_was_measured():
    assert spec_for(10_000, 64).kind is IndexKind.FLAT
    large = spec_for(1_000_000, 64)
    assert (large.kind, large.codes, large.num_lists) == (IndexKind.IVF, VectorCode.PQ4, 2048)
    assert spec_for(1_000_000, 33).codes is VectorCode.UINT8
    assert num_lists_for(100_000) == 512
    assert IndexSpec.from_json(json.loads(json.dumps(large.to_json()))) == large
    assert all(spec.kind is not IndexKind.HNSW for spec in candidates_for(1_000_000, 64))
