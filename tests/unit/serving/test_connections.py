"""What kept connections, TLS and tokens can do wrong, over both protocols."""

from __future__ import annotations

import contextlib
import http.server
import ssl
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2_grpc

from edgeml.errors import (
    ClosedError,
    InputError,
    ServerError,
    ServerOverloadedError,
    ServerTimeoutError,
    ServerUnreachableError,
)
from edgeml.serving.client import http_connections
from edgeml.serving.client.engine import TritonEngine
from edgeml.serving.client.faults import translate, translate_status
from edgeml.serving.repository.config import CPU_CONFIG
from edgeml.serving.repository.model_configs import build_configs
from edgeml.serving.repository.options import ServingOptions
from tests.unit.serving.certificates import make_certificate
from tests.unit.serving.fake_http import FakeHttp, _Handler, serving_http
from tests.unit.serving.fake_server import FakeTriton, serving

IMAGE = {"image": np.zeros((1, 64, 64, 3), dtype=np.uint8)}


@pytest.fixture
def config(contract):
    named = {"name": "clothing", "policy": "allowed", "version": 1}
    return build_configs(contract, **named, options=ServingOptions())[CPU_CONFIG]


@pytest.fixture
def fake(config):
    return FakeHttp(config=config)


@pytest.fixture
def engine(fake):
    with serving_http(fake) as url:
        engine = TritonEngine(url, model="clothing", timeout_s=5.0)
        yield engine
        engine.close()


def test_a_connection_that_lay_idle_for_long_is_renewed(engine, fake, monkeypatch):
    engine.run(IMAGE)
    assert fake.connections == 1
    monkeypatch.setattr(http_connections.time, "monotonic", lambda now=time.monotonic: now() + 601)
    engine.run(IMAGE)
    assert fake.connections == 2


def test_several_kept_connections_that_were_closed_cost_one_new_one(engine, fake):
    fake.wait = threading.Event()
    with ThreadPoolExecutor(max_workers=4) as pool:
        calls = [pool.submit(engine.run, IMAGE) for _ in range(4)]
        time.sleep(0.2)
        fake.wait.set()
        for call in calls:
            call.result(timeout=5)
    before, fake.hang_up = len(fake.requests), 1
    engine.run(IMAGE)
    assert len(fake.requests) == before + 1
    fake.hang_up = 9
    with pytest.raises(ServerUnreachableError):
        engine.run(IMAGE)
    assert fake.hang_up >= 7  # asked once more, and never again


def test_closing_ends_calls_under_way(engine, fake):
    fake.wait = threading.Event()
    with ThreadPoolExecutor(max_workers=1) as pool:
        call = pool.submit(engine.run, IMAGE)
        time.sleep(0.2)
        started = time.monotonic()
        engine.close()
        with pytest.raises(ClosedError):
            call.result(timeout=5)
        assert time.monotonic() - started < 2
        fake.wait.set()


class Awkward(_Handler):
    """Answers in a way that HTTP allows, or almost."""

    manner = ""

    def _send(self, status, body, length=None):
        if self.manner == "closing" or length is None:
            self.close_connection = self.manner == "closing"
            self.send_response(status)
            if self.manner == "closing":
                self.send_header("Connection", "close")
            self._finish(body, length)
        elif self.manner == "chunked":
            self.send_response(status)
            self.send_header("Transfer-Encoding", "chunked")
            self.send_header("Inference-Header-Content-Length", str(length))
            self.end_headers()
            for part in (body[:10], body[10:], b""):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
        elif self.manner == "dripping":
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):
                for place in range(len(body)):
                    self.wfile.write(body[place : place + 1])
                    time.sleep(0.1)
        elif self.manner == "cut":
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) + 1))
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = True

    def _finish(self, body, length):
        self.send_header("Content-Length", str(len(body)))
        if length is not None:
            self.send_header("Inference-Header-Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)


@contextlib.contextmanager
def awkward(fake, manner, context=None):
    handler = type("Handler", (Awkward,), {"fake": fake, "manner": manner})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # a client that does not trust hangs up
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("manner", ["closing", "chunked"])
def test_other_ways_to_answer_are_understood(fake, manner):
    with awkward(fake, manner) as place:
        engine = TritonEngine(f"http://{place}", model="clothing", timeout_s=5)
        for _ in range(3):
            np.testing.assert_array_equal(engine.run(IMAGE)["probabilities"], [[0.25, 0.75]])
        engine.close()


def test_an_answer_that_comes_drop_by_drop_ends_at_the_deadline(fake):
    with awkward(fake, "dripping") as place:
        engine = TritonEngine(f"http://{place}", model="clothing", timeout_s=0.5)
        started = time.monotonic()
        with pytest.raises(ServerTimeoutError):
            engine.run(IMAGE)
        assert time.monotonic() - started < 2
        engine.close()


def test_an_answer_that_is_cut_is_not_asked_for_again(fake):
    with awkward(fake, "cut") as place:
        engine = TritonEngine(f"http://{place}", model="clothing", timeout_s=5)
        with pytest.raises(ServerUnreachableError):
            engine.run(IMAGE)
        assert len(fake.requests) == 1
        engine.close()


@pytest.mark.parametrize(
    ("late", "kind"), [(True, ServerTimeoutError), (False, ServerOverloadedError)]
)
def test_a_refusal_for_the_callers_own_time_is_a_timeout(late, kind):
    error = SimpleNamespace(
        code=lambda: grpc.StatusCode.UNAVAILABLE, details=lambda: "Request timeout expired"
    )
    named = {"url": "grpc://h:1", "model": "m", "timeout_s": 0.2, "late": late}
    assert type(translate(error, **named)) is kind
    assert type(translate_status(503, error.details(), **named)) is kind


def test_the_port_of_the_other_protocol_is_an_error_of_ours(config):
    with serving(FakeTriton(config=config)) as url, pytest.raises(ServerError):
        TritonEngine(url.replace("grpc", "http"), model="clothing", timeout_s=2)
    with serving_http(FakeHttp(config=config)) as url, pytest.raises(ServerError):
        TritonEngine(url.replace("http", "grpc"), model="clothing", timeout_s=2)


@contextlib.contextmanager
def serving_grpcs(fake, files, *, clients=None):
    with ThreadPoolExecutor(max_workers=4) as pool:
        server = grpc.server(pool)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(fake, server)
        pair = (files.key.read_bytes(), files.certificate.read_bytes())
        known = clients and clients.certificate.read_bytes()
        credentials = grpc.ssl_server_credentials(
            [pair], root_certificates=known, require_client_auth=known is not None
        )
        port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(grace=None).wait()


@contextlib.contextmanager
def serving_https(fake, files, *, clients=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients.certificate)
    with awkward(fake, "chunked", context) as place:
        yield place


SECURE = {"grpcs": (FakeTriton, serving_grpcs), "https": (FakeHttp, serving_https)}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize("scheme", SECURE)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_tls_with_a_certificate_that_is_named(scheme, host, files, config):
    kind, serve = SECURE[scheme]
    fake = kind(config=config)
    with serve(fake, files) as place:
        engine = TritonEngine(
            f"{scheme}://{place.replace('127.0.0.1', host)}",
            model="clothing",
            timeout_s=5,
            token="s3cret",
            root_certificates=files.certificate,
        )
        for _ in range(3):
            engine.run(IMAGE)
        engine.close()
    if scheme == "https":
        assert {row["Authorization"] for row in fake.headers} == {"Bearer s3cret"}
        assert fake.connections == 1
    else:
        assert {row["authorization"] for row in fake.metadata} == {"Bearer s3cret"}


@pytest.mark.parametrize("scheme", SECURE)
@pytest.mark.parametrize("trust", [None, "another"])
def test_a_certificate_that_nobody_vouches_for_is_refused(scheme, trust, files, config, tmp_path):
    kind, serve = SECURE[scheme]
    roots = make_certificate(tmp_path, trust).certificate if trust else None
    raises = pytest.raises(ServerUnreachableError, match=r"certificate.*root_certificates")
    with serve(kind(config=config), files) as place, raises:
        TritonEngine(f"{scheme}://{place}", model="clothing", timeout_s=5, root_certificates=roots)


@pytest.mark.parametrize("scheme", SECURE)
def test_a_server_that_asks_who_is_there(scheme, files, config, tmp_path):
    kind, serve = SECURE[scheme]
    known, stranger = (make_certificate(tmp_path, name) for name in ("known", "stranger"))
    named = {"model": "clothing", "timeout_s": 5, "root_certificates": files.certificate}
    with serve(kind(config=config), files, clients=known) as place:
        url = f"{scheme}://{place}"
        engine = TritonEngine(url, **named, client_certificate=(known.certificate, known.key))
        assert engine.run(IMAGE)
        engine.close()
        for other in (None, (stranger.certificate, stranger.key)):
            with pytest.raises(ServerUnreachableError):
                TritonEngine(url, **named, client_certificate=other)


@pytest.mark.parametrize("scheme", SECURE)
def test_a_client_certificate_that_is_none_is_refused(scheme, files, tmp_path):
    other = make_certificate(tmp_path, "other")
    locked = tmp_path / "locked.key"
    subprocess.run(
        [*("openssl", "ec", "-aes128", "-passout", "pass:x"), "-in", files.key, "-out", locked],
        check=True,
        capture_output=True,
    )
    pairs = {
        "with the key": (files.certificate, other.key),
        "without a password": (files.certificate, locked),
        "is no file": (files.certificate, tmp_path / "none.key"),
        "a pair of PEM files": files.certificate,
    }
    for says, pair in pairs.items():
        with pytest.raises(InputError, match=says):
            TritonEngine(f"{scheme}://127.0.0.1:1", model="clothing", client_certificate=pair)
    with pytest.raises(InputError, match="grpcs or https"):
        TritonEngine(
            f"{scheme[:-1]}://127.0.0.1:1",
            model="clothing",
            client_certificate=(files.certificate, files.key),
        )


@pytest.mark.parametrize("scheme", SECURE)
def test_a_server_without_tls_is_an_error_of_ours(scheme, config):
    serve = {"grpcs": serving, "https": serving_http}[scheme]
    with serve(SECURE[scheme][0](config=config)) as url, pytest.raises(ServerUnreachableError):
        TritonEngine(url.replace(scheme[:-1], scheme), model="clothing", timeout_s=2)


@pytest.mark.parametrize("scheme", SECURE)
@pytest.mark.parametrize("contents", [b"", b"no certificate at all\n"])
def test_a_file_that_holds_no_certificate_is_refused(scheme, contents, tmp_path):
    file = tmp_path / "roots.pem"
    file.write_bytes(contents)
    with pytest.raises(InputError, match="certificate"):
        TritonEngine(f"{scheme}://127.0.0.1:1", model="clothing", root_certificates=file)
