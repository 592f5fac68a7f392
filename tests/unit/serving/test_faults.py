"""What a server's words become: errors that say what to do, over both protocols."""

from __future__ import annotations

from types import SimpleNamespace

import grpc
import pytest

from edgeml.errors import ServerError
from edgeml.serving.client.faults import translate, translate_status

FULL = (
    "Failed to increase the shared memory pool size for key 'edgeml_1_2_ab' to 1048576 bytes. "
    "If you are running Triton inside docker, use '--shm-size' flag to control the shared memory "
    "region size."
)
WHERE = {"url": "grpc://here:1", "model": "tiny", "timeout_s": 1.0}


def over_grpc(details: str) -> ServerError:
    error = SimpleNamespace(code=lambda: grpc.StatusCode.INTERNAL, details=lambda: details)
    return translate(error, **WHERE)


def over_http(details: str) -> ServerError:
    return translate_status(500, details, **WHERE)


@pytest.mark.parametrize("error_of", [over_grpc, over_http])
def test_full_shared_memory_is_said_without_the_name_of_the_segment(error_of):
    error = error_of(FULL)
    assert type(error) is ServerError
    assert "/dev/shm is full and this request does not fit; send a smaller batch" in str(error)
    assert "edgeml_1_2_ab" not in str(error)
