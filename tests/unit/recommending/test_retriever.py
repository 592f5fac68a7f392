"""A model and its index together are the model itself."""

import subprocess
import sys

import numpy as np
import pytest

from edgeml.errors import InputError, IntegrityError
from edgeml.recommending.index.retriever import Retriever
from edgeml.recommending.retrieval.histories import Histories
from edgeml.recommending.retrieval.item_item import Ease, LinearFactors
from edgeml.recommending.retrieval.model import top_k
from tests.unit.recommending.logs import NUM_ITEMS, NUM_USERS, taste_histories, taste_log


@pytest.fixture(scope="module")
def model():
    users, items = taste_log()
    ease = Ease.fit(users, items, num_users=NUM_USERS, num_items=NUM_ITEMS, l2=5.0)
    return LinearFactors.from_ease(ease, taste_histories(), rank=8)


@pytest.fixture(scope="module")
def retriever(model):
    return Retriever.build(model, version="a")


@pytest.mark.parametrize("k", [1, 7, NUM_ITEMS, 1000])
def test_it_ranks_as_the_model_does(retriever, model, k):
    histories = taste_histories().rows(slice(1, None))  # without a history all scores are equal
    allowed = np.arange(NUM_ITEMS) % 3 > 0
    for given in (None, allowed):
        found = retriever.top_k(histories, k, allowed=given)
        wanted = top_k(model, histories, k, allowed=given)
        np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-5)
        assert (found.items == wanted.items).mean() > 0.99  # equal scores may change places


def test_other_items_than_the_history_can_be_excluded(retriever):
    history = np.array([1, 5])
    assert not np.isin(retriever.retrieve(history, 50).items, history).any()
    found = retriever.retrieve(history, 50, exclude=np.array([9])).items
    assert 9 not in found
    assert np.isin(history, found).all()


def test_an_anonymous_user_with_a_history_is_answered_and_one_without_too(retriever):
    assert retriever.retrieve(np.array([1, 5]), 3).items.size == 3
    assert retriever.retrieve(np.array([], dtype=np.int64), 3).items.size == 3


def test_fewer_left_than_asked_for_gives_a_short_answer(retriever):
    allowed = np.zeros(NUM_ITEMS, bool)
    assert retriever.retrieve(np.array([1]), 10, allowed=allowed).items.size == 0
    allowed[[1, 2]] = True
    assert retriever.retrieve(np.array([1]), 10, allowed=allowed).items.tolist() == [2]


def test_a_prepared_filter_is_taken(retriever):
    prepared = retriever.index.prepare(np.arange(5, 15))
    found = retriever.retrieve(np.array([6]), 40, allowed=prepared).items
    assert set(found) == set(range(5, 15)) - {6}


def test_a_filter_by_another_catalogue_is_refused(retriever):
    with pytest.raises(InputError, match="one entry an item code"):
        retriever.retrieve(np.array([1]), 3, allowed=np.ones(3, bool))


def test_it_is_loaded_with_its_model_only(retriever, model, tmp_path):
    retriever.save(tmp_path)
    loaded = Retriever.load(model, tmp_path, version="a")
    histories = Histories.of([[1, 2, 3]])
    np.testing.assert_array_equal(
        loaded.top_k(histories, 5).items, retriever.top_k(histories, 5).items
    )
    with pytest.raises(IntegrityError, match="version"):
        Retriever.load(model, tmp_path, version="b")
    narrow = LinearFactors(fold_in=model.fold_in[:, :4], item_vectors=model.item_vectors[:, :4])
    with pytest.raises(IntegrityError, match="dimension"):
        Retriever.load(narrow, tmp_path, version="a")


@pytest.mark.parametrize("order", ["torch, faiss", "faiss, torch"])
def test_faiss_and_torch_work_in_one_process(order):
    """Both bring a thread pool of their own; neither order may hang or crash."""
    code = f"""
import {order}
import numpy as np
from edgeml.recommending.index.item_index import ItemIndex
vectors = np.eye(8, dtype=np.float32)
index = ItemIndex.build(vectors, num_threads=2)
product = torch.ones(300, 300) @ torch.ones(300, 300)
assert float(product[0, 0]) == 300
assert index.search(vectors, 1).ids[:, 0].tolist() == list(range(8))
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_retrieval_needs_no_torch():
    code = """
import sys
import edgeml.recommending.index.retriever, edgeml.recommending.evaluation
import edgeml.recommending.retrieval.storing
assert not {"torch", "onnxruntime", "pyarrow"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
