"""``with_fallback``: what it accepts, what it refuses, and how a server that is late is found."""

from __future__ import annotations

import asyncio
import dataclasses
import logging

import numpy as np
import pytest

import edgeml
from edgeml.core.fake import FakeEngine
from edgeml.core.identity import ModelIdentity
from edgeml.errors import InputError, ModelNotReadyError, ServerError, ServerUnreachableError
from edgeml.tasks.predictor import TaskPredictor
from edgeml.workflows.failing_over import golden_check
from edgeml.workflows.loading import task_of
from tests.unit.serving.routing import scripted
from tests.unit.serving.routing.scripted import URL, values, wait_until
from tests.unit.serving.tiny_bundle import make_tiny_bundle

SETTINGS = edgeml.FallbackSettings(probe_every_s=0.05, probe_timeout_s=0.3)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_tiny_bundle(tmp_path_factory.mktemp("fallback") / "tiny.bundle")


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return make_tiny_bundle(tmp_path_factory.mktemp("fallback") / "other.bundle", seed=1)


def edge(bundle):
    return edgeml.load(bundle, num_threads=1)


def as_server(bundle, *, identity=None, wrong=False, served_by="triton/cpu/int8/1"):
    """The bundle's model under another name: what a server with the same bundle would answer."""
    inside = edge(bundle)

    def answer(tensors):
        outputs = inside.run(tensors)
        return {name: 1 - array if wrong else array for name, array in outputs.items()}

    return TaskPredictor(
        task_of(bundle),
        FakeEngine(bundle.manifest.signature, answer=answer, served_by=served_by),
        identity=identity or dataclasses.replace(ModelIdentity.of_bundle(bundle), bundle=None),
    )


def item_of(bundle):
    return bundle.golden().tensors["image"][0]


def test_the_same_bundle_on_both_sides(tiny):
    with edgeml.with_fallback(as_server(tiny), edge(tiny)) as both:
        assert both.predict(item_of(tiny)).served_by == "triton/cpu/int8/1"
        assert both.served_by == "triton/cpu/int8/1|onnxruntime/cpu/int8/1"
        assert both.identity.name == "tiny"
        assert 'model="tiny"' in both.metrics_text()
        assert isinstance(both, edgeml.Predictor)


def test_another_training_is_refused_unless_it_is_declared(tiny, other, caplog):
    with pytest.raises(InputError, match=r"different trainings.*allow_other_artefact=True"):
        edgeml.with_fallback(as_server(tiny), edge(other))
    settings = edgeml.FallbackSettings(allow_other_artefact=True)
    with edgeml.with_fallback(as_server(tiny), edge(other), settings=settings):
        assert "answers depend on who gives them" in caplog.text


def test_more_variants_on_one_side_are_no_other_training(tiny):
    here = ModelIdentity.of_bundle(tiny)
    fewer = dataclasses.replace(here, bundle=None, artefacts={"int8": here.artefacts["int8"]})
    with edgeml.with_fallback(as_server(tiny, identity=fewer), edge(tiny)) as both:
        assert both.predict(item_of(tiny)).served_by == "triton/cpu/int8/1"


@pytest.mark.parametrize(("version", "same"), [("1", True), ("2", False)])
def test_without_a_common_variant_the_version_decides(tiny, version, same):
    here = ModelIdentity.of_bundle(tiny)
    there = dataclasses.replace(here, bundle=None, artefacts={"int4": "0" * 64}, version=version)
    if same:
        with edgeml.with_fallback(as_server(tiny, identity=there), edge(tiny)) as both:
            assert both.predict(item_of(tiny)).served_by == "triton/cpu/int8/1"
    else:
        with pytest.raises(InputError, match="different trainings"):
            edgeml.with_fallback(as_server(tiny, identity=there), edge(tiny))


def test_a_limit_before_the_server_refuses_and_the_edge_answers():
    server, device = scripted.server(), scripted.edge()
    limited = edgeml.with_limit(server.predictor)
    with edgeml.with_fallback(limited, device.predictor) as both:
        assert both.predict(scripted.PICTURE).served_by == "triton/cpu/int8/1"
        server.state = "overloaded"
        assert both.predict(scripted.PICTURE).served_by == "onnxruntime/cpu/int8/1"
        assert 'part="server"' in both.metrics_text()


def test_other_preprocessing_is_another_model(tiny):
    here = ModelIdentity.of_bundle(tiny)
    changed = dataclasses.replace(here, preprocessing={**here.preprocessing, "height": 9})
    with pytest.raises(InputError, match="differ in preprocessing"):
        edgeml.with_fallback(as_server(tiny, identity=changed), edge(tiny))


def test_a_server_that_does_not_pass_its_golden_values_is_told(tiny, caplog):
    with edgeml.with_fallback(as_server(tiny, wrong=True), edge(tiny)):
        assert "does not answer as the bundle's golden values say" in caplog.text


def test_golden_requests_tell_right_from_wrong(tiny):
    check = golden_check(tiny)
    with as_server(tiny) as right, as_server(tiny, wrong=True) as wrong:
        assert all(check(right) for _ in range(10))
        assert not check(wrong)
    with as_server(tiny, wrong=True, served_by="somebody") as unknown:
        assert check(unknown)  # whose variant is not known: that it answered is all there is


@pytest.mark.parametrize("declared", [True, False])
def test_a_training_that_is_published_later_is_come_back_to_where_that_was_declared(tiny, declared):
    server = as_server(tiny)
    engine = server._engine
    settings = dataclasses.replace(SETTINGS, allow_other_artefact=declared)
    with edgeml.with_fallback(server, edge(tiny), settings=settings) as both:
        well, newer = engine._answer, as_server(tiny, wrong=True)

        def away(tensors):
            raise ModelNotReadyError("unloaded", url=URL, model="tiny")

        engine._answer = away
        assert both.predict(item_of(tiny)).served_by.startswith("onnxruntime")
        engine._served_by, engine._answer = "triton/cpu/int8/2", newer.run

        def probes(outcome):
            found = values(both.metrics_text(), "fallback_probes_total")
            return found.get(f"outcome={outcome}", 0)

        if declared:
            wait_until(lambda: both.predict(item_of(tiny)).served_by == "triton/cpu/int8/2")
        else:
            wait_until(lambda: probes("wrong") >= 3)
            assert both.predict(item_of(tiny)).served_by.startswith("onnxruntime")
            engine._answer = well
            wait_until(lambda: both.predict(item_of(tiny)).served_by.startswith("triton"))


@pytest.mark.parametrize("role", ["server", "edge"])
def test_what_is_no_predictor_is_named(tiny, role):
    one = edge(tiny)
    pair = {"server": one, "edge": one, role: "grpc://host:8001"}
    with pytest.raises(InputError, match=f"the {role} is a str; a predictor was expected"):
        edgeml.with_fallback(pair["server"], pair["edge"])
    one.close()


def test_answers_that_have_to_be_awaited_are_refused(tiny):
    from edgeml.serving.client.async_predictor import AsyncPredictor

    server = object.__new__(AsyncPredictor)
    one = edge(tiny)
    with pytest.raises(InputError, match=r"have to be awaited.*asyncio\.to_thread"):
        edgeml.with_fallback(server, one)
    one.close()


def test_it_can_be_called_from_an_event_loop_by_threads(tiny):
    async def main(both):
        calls = [asyncio.to_thread(both.predict, item_of(tiny)) for _ in range(8)]
        return await asyncio.gather(*calls)

    with edgeml.with_fallback(as_server(tiny), edge(tiny)) as both:
        answers = asyncio.run(main(both))
    assert {answer.served_by for answer in answers} == {"triton/cpu/int8/1"}


def test_a_server_that_is_away_at_the_start_is_connected_to_later(tiny, caplog):
    there = []

    def connect():
        if not there:
            raise ServerUnreachableError("nobody", url=URL)
        return as_server(tiny)

    with edgeml.with_fallback(connect, edge(tiny), settings=SETTINGS) as both:
        assert both.predict(item_of(tiny)).served_by.startswith("onnxruntime")
        assert both.served_by.startswith("a server that is not connected yet|")
        there.append(True)
        wait_until(lambda: both.predict(item_of(tiny)).served_by.startswith("triton"))
        assert both.served_by.startswith("triton/")


def test_a_server_that_comes_up_with_another_model_is_not_used(tiny, other, caplog):
    there = []

    def connect():
        if not there:
            raise ServerUnreachableError("nobody", url=URL)
        return as_server(other)

    with (
        caplog.at_level(logging.ERROR),
        edgeml.with_fallback(connect, edge(tiny), settings=SETTINGS) as both,
    ):
        there.append(True)

        def probes():
            return values(both.metrics_text(), "fallback_probes_total").get("outcome=error", 0)

        wait_until(lambda: probes() >= 3)
        assert both.predict(item_of(tiny)).served_by.startswith("onnxruntime")
    told = [row for row in caplog.records if row.levelno == logging.ERROR]
    assert len(told) == 1
    assert "different trainings" in told[0].getMessage()


@pytest.mark.parametrize("policy", ["required", "forbidden"])
def test_a_server_that_is_needed_must_be_there(tiny, policy):
    def connect():
        raise ServerUnreachableError("nobody", url=URL)

    one = edge(tiny)
    with pytest.raises(ServerError, match="nobody"):
        edgeml.with_fallback(connect, one, policy=policy)
    one.close()


def test_a_wrong_argument_of_the_function_is_not_taken_for_a_server_that_is_away(tiny):
    def connect():
        raise InputError("the URL is none")

    one = edge(tiny)
    with pytest.raises(InputError, match="the URL is none"):
        edgeml.with_fallback(connect, one)
    one.close()


def test_members_can_be_left_open(tiny):
    one = edge(tiny)
    edgeml.with_fallback(as_server(tiny), one, close_members=False).close()
    assert np.isfinite(one.predict(item_of(tiny)).score)
    one.close()
