"""Archives of arrays: any names, no pickle, and one line for whatever else a file may be."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from edgeml.core.archives import read_archive, read_arrays, write_archive
from edgeml.errors import InputError

ARRAYS = {
    "file": np.arange(6, dtype=np.float32).reshape(2, 3),
    "allow_pickle": np.array([True, False]),
    "a/b:0": np.array(7, dtype=np.int64),
    "größe": np.zeros((0, 2), dtype=np.uint8),
}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    contents = write_archive(ARRAYS)
    (tmp_path / "x.npz").write_bytes(contents)
    for source in (contents, tmp_path / "x.npz"):
        found = read_archive(source)
        assert list(found) == list(ARRAYS)
        for name, array in ARRAYS.items():
            assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
            assert np.array_equal(found[name], array)
    assert write_archive(ARRAYS) == contents


def test_numpy_reads_it_and_we_read_numpys() -> None:
    with np.load(io.BytesIO(write_archive(ARRAYS)), allow_pickle=False) as archive:
        assert np.array_equal(archive["a/b:0"], 7)
    file = io.BytesIO()
    np.savez_compressed(file, x=np.arange(3))
    assert read_archive(file.getvalue())["x"].tolist() == [0, 1, 2]


def test_objects_are_not_written() -> None:
    with pytest.raises(ValueError, match="Object arrays"):
        write_archive({"x": np.array([{}], dtype=object)})


def test_one_array_has_the_name_it_is_given() -> None:
    file = io.BytesIO()
    np.save(file, np.arange(3))
    assert read_arrays(file.getvalue(), single="x")["x"].tolist() == [0, 1, 2]
    assert list(read_arrays(write_archive(ARRAYS), single="x")) == list(ARRAYS)
    with pytest.raises(InputError, match=r"this is one array \(\.npy\)"):
        read_archive(file.getvalue())


def _pickled() -> bytes:
    file = io.BytesIO()
    np.savez(file, x=np.array([{}], dtype=object))
    return file.getvalue()


def _zip(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def _huge() -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": "<f8", "fortran_order": False, "shape": (1 << 55,)}
    )
    return _zip(x=file.getvalue())


WHOLE = write_archive(ARRAYS)


@pytest.mark.parametrize(
    ("contents", "says"),
    [
        (b"", "neither an .npz nor an .npy"),
        (b"values,label\n", "neither an .npz nor an .npy"),
        (_pickled(), "cannot be read"),
        (_zip(x=b"plain"), "member 'x' is no array"),
        (WHOLE[: len(WHOLE) // 2], "cannot be read"),
        (WHOLE[:300].replace(b"\x00\x00\x80\x3f", b"\x01\x00\x80\x3f") + WHOLE[300:], "CRC"),
        (_huge(), "memory"),
        (b"\x93NUMPY\x01\x00", "cannot be read"),
    ],
    ids=["empty", "text", "pickled", "no-array", "half", "flipped", "huge", "half-npy"],
)
def test_anything_else_is_one_line(contents: bytes, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        read_arrays(contents, single="x")
    assert "\n" not in str(caught.value)


def test_a_path_that_is_no_file_is_refused(tmp_path: Path) -> None:
    cases: list[tuple[Any, str]] = [(tmp_path, "a folder"), (tmp_path / "none.npz", "not there")]
    for path, says in cases:
        with pytest.raises(InputError, match=says):
            read_archive(path)


@pytest.mark.parametrize("order", ["C", "F"])
def test_large_arrays_are_mapped(tmp_path: Path, order: Literal["C", "F"]) -> None:
    place = tmp_path / "large.npz"
    large = np.arange(5 * 2**20, dtype=np.float32).reshape(1024, -1).copy(order=order)
    np.savez(place, large=large, small=np.arange(3))
    found = read_archive(place)
    np.testing.assert_array_equal(found["large"], large)
    assert type(found["large"]) is np.ndarray
    assert not found["large"].flags.owndata
    assert not found["large"].flags.writeable
    np.testing.assert_array_equal(found["small"], np.arange(3))


def test_a_large_array_that_is_compressed_is_read(tmp_path: Path) -> None:
    place = tmp_path / "large.npz"
    large = np.zeros(5 * 2**20, dtype=np.float32)
    np.savez_compressed(place, large=large)
    np.testing.assert_array_equal(read_archive(place)["large"], large)


def test_damage_in_a_large_array_is_found(tmp_path: Path) -> None:
    place = tmp_path / "large.npz"
    np.savez(place, large=np.zeros(5 * 2**20, dtype=np.float32))
    with place.open("r+b") as file:
        file.seek(10 * 2**20)
        file.write(b"x")
    with pytest.raises(InputError, match="cannot be read"):
        read_archive(place)
