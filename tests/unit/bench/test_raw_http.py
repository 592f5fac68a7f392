"""The raw HTTP client against servers that answer well, badly, slowly, in pieces and not at all."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeml.bench.raw_http import HttpConnection, HttpTarget, build_request, http_target
from edgeml.errors import (
    InputError,
    RequestRefusedError,
    ServerError,
    ServerTimeoutError,
    ServerUnreachableError,
)


@contextlib.contextmanager
def _server(*answers: list[bytes] | None) -> Iterator[tuple[str, list[bytes]]]:
    """Answers each request with the next list of pieces; None hangs; [] closes."""
    listener = socket.create_server(("127.0.0.1", 0))
    seen: list[bytes] = []
    held: list[socket.socket] = []
    over = threading.Event()

    def serve() -> None:
        left = list(answers)
        while left and not over.is_set():
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                held.append(connection)
                while left and (data := connection.recv(65536)):
                    seen.append(data)
                    pieces = left.pop(0)
                    if pieces is None:
                        over.wait(10)
                        break
                    for piece in pieces:
                        connection.sendall(piece)
                        over.wait(0.01 if len(pieces) > 1 else 0)
                    if not pieces or b"close" in pieces[0]:
                        break
                connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/predict", seen
    finally:
        over.set()
        listener.close()
        for connection in held:
            connection.close()
        thread.join(5)


_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"


def test_a_request_is_built_once_and_complete() -> None:
    text = build_request("http://host:80/a?b=c", b"body", headers={"Content-Type": "image/png"})
    assert text == (
        b"POST /a?b=c HTTP/1.1\r\nHost: host:80\r\nContent-Length: 4\r\n"
        b"Content-Type: image/png\r\n\r\nbody"
    )


def test_a_connection_is_kept_and_answers_in_pieces_are_put_together() -> None:
    pieces = [b"HTTP/1.1 200 OK\r\ncontent-le", b"ngth: 4\r\n\r\nfi", b"ne"]
    with _server([_OK], pieces, [_OK]) as (url, seen):
        connection = HttpConnection(url)
        assert [connection.ask(build_request(url, b"x")) for _ in range(3)] == [b"fine"] * 3
        assert len(seen) == 3
        connection.close()


def test_a_server_that_closes_is_asked_on_a_new_connection() -> None:
    closing = [b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"]
    with _server(closing, [_OK]) as (url, _):
        connection = HttpConnection(url)
        assert connection.ask(build_request(url, b"x")) == b"ok"
        assert connection.ask(build_request(url, b"x")) == b"fine"
        connection.close()


@pytest.mark.parametrize("status", [413, 429, 503])
def test_refusals_are_told_from_errors(status: int) -> None:
    answer = [f"HTTP/1.1 {status} No\r\nContent-Length: 4\r\n\r\nfull".encode()]
    broken = [b"HTTP/1.1 500 No\r\nContent-Length: 6\r\n\r\nbroken"]
    with _server(answer, broken) as (url, _):
        connection = HttpConnection(url)
        with pytest.raises(RequestRefusedError, match="full"):
            connection.ask(build_request(url, b"x"))
        with pytest.raises(ServerError, match=r"status 500 .* broken") as caught:
            connection.ask(build_request(url, b"x"))
        assert not isinstance(caught.value, RequestRefusedError)
        connection.close()


def test_a_server_that_hangs_is_a_timeout() -> None:
    with _server(None) as (url, _), pytest.raises(ServerTimeoutError, match=r"0\.1 s"):
        HttpConnection(url, timeout_s=0.1).ask(build_request(url, b"x"))


def test_a_server_that_goes_away_is_unreachable() -> None:
    with _server([]) as (url, _), pytest.raises(ServerUnreachableError, match="running server"):
        HttpConnection(url).ask(build_request(url, b"x"))
    with pytest.raises(ServerUnreachableError):
        HttpConnection(url).ask(build_request(url, b"x"))


def test_an_answer_without_a_length_is_an_error() -> None:
    chunked = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"]
    with _server(chunked) as (url, _), pytest.raises(ServerError, match="Content-Length"):
        HttpConnection(url).ask(build_request(url, b"x"))


@pytest.mark.parametrize("url", ["https://host/", "host:8000", "grpc://host:1"])
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(InputError, match="http://host:port/path"):
        HttpConnection(url)


def test_the_target_posts_files_and_checks_labels(tmp_path: Path) -> None:
    answers = [b'{"label": "cat"}', b'{"label": "dog"}', b"no json"]
    pieces = [
        [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)] for body in answers
    ]
    files = []
    for number in range(3):
        file = tmp_path / str(number)
        file.write_bytes(b"%d" % number)
        files.append(str(file))
    with _server(*pieces) as (url, seen):
        target = http_target(url=url, files=files, expected_labels=["cat", "cat", "cat"])
        assert isinstance(target, HttpTarget)
        call = target.connect()
        said = [target.check(sample, call(sample)) for sample in range(3)]
        target.close()
    assert said == [
        None,
        "sample 1: 'dog' where 'cat' is right",
        "sample 2: b'no json' where 'cat' is right",
    ]
    assert [data[-1:] for data in seen] == [b"0", b"1", b"2"]
