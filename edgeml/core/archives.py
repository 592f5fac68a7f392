"""Named arrays as an ``.npz`` archive: read without pickle, written with any names.

``numpy.savez`` takes names as its own keywords, so an input called ``file`` cannot be one of them;
here it can.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgeml.errors import InputError

_ZIP = b"PK"
_NPY = b"\x93NUMPY"
# In a member's own header: where the lengths of its name and of its extra field stand.
_LENGTHS_AT = 26
# Smaller arrays are simply read.
_MAPPED_BYTES = 16 * 2**20


def write_archive(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Return named arrays as the contents of an ``.npz`` file, the same for the same arrays.

    Args:
        arrays: Name to array of any shape; no objects.

    Raises:
        ValueError: An array holds objects.
    """
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            # A ZipInfo of its own has a fixed date, and force_zip64 lets a member pass 2 GB.
            member = zipfile.ZipInfo(f"{name}.npy")
            with archive.open(member, "w", force_zip64=True) as target:
                # ascontiguousarray would give a scalar an axis.
                plain = np.asarray(array, order="C")
                np.lib.format.write_array(target, plain, allow_pickle=False)
    return file.getvalue()


def read_archive(source: Path | bytes) -> dict[str, npt.NDArray[Any]]:
    """Read an ``.npz`` file.

    Args:
        source: Its path, or its contents.

    Returns:
        Name to array, in the order of the archive. Large ones that are not compressed are maps of
        the file, which must stay as it is.

    Raises:
        InputError: It is not there, no such archive, damaged, or holds pickled objects.
    """
    found = _read(source)
    if isinstance(found, dict):
        return found
    raise InputError(
        "this is one array (.npy); an .npz with one array per input was expected; write it with "
        "numpy.savez, each array under its input's name"
    )


def read_arrays(source: Path | bytes, *, single: str) -> dict[str, npt.NDArray[Any]]:
    """Read an ``.npz`` file, or an ``.npy`` file as the array of one name.

    Args:
        source: Its path, or its contents.
        single: What the array of an ``.npy`` file is called.

    Raises:
        InputError: It is not there, neither of them, damaged, or holds pickled objects.
    """
    found = _read(source)
    return found if isinstance(found, dict) else {single: found}


def _read(source: Path | bytes) -> dict[str, npt.NDArray[Any]] | npt.NDArray[Any]:
    """Return what a file holds: an archive's arrays, or a single array."""
    if isinstance(source, Path) and not source.is_file():
        what = "a folder or no plain file" if source.exists() else "not there"
        raise InputError(f"this is {what}; an .npz file was expected; check the path")
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
            start = file.read(len(_NPY))
            file.seek(0)
            if start == _NPY:
                return np.asarray(np.load(file, allow_pickle=False))
            if not start.startswith(_ZIP):
                raise InputError(
                    "this is neither an .npz nor an .npy file; one array per input, by its name, "
                    "was expected; write it with numpy.savez"
                )
            with np.load(file, allow_pickle=False) as archive:
                return {name: _member(archive, name, source) for name in archive.files}
    except InputError:
        raise
    except MemoryError as exc:
        raise InputError(
            "an array in it says that it is larger than this machine's memory; a whole file that "
            "fits was expected; write it again, in parts"
        ) from exc
    except Exception as exc:  # zipfile, zlib and numpy each have their own words for damage
        reason = (str(exc) or type(exc).__name__).splitlines()[0]
        raise InputError(
            f"this file cannot be read ({reason}); whole arrays of numbers without pickled objects "
            "were expected; write it again with numpy.savez"
        ) from exc


def _member(archive: Any, name: str, source: Path | bytes) -> npt.NDArray[Any]:
    found = _mapped(archive.zip, name, source) if isinstance(source, Path) else None
    if found is None:
        found = archive[name]
    if not isinstance(found, np.ndarray):
        raise InputError(
            f"its member '{name}' is no array; an .npz with one array per input was expected; "
            "write it with numpy.savez"
        )
    return found


def _mapped(archive: zipfile.ZipFile, name: str, source: Path) -> npt.NDArray[Any] | None:
    """Return a large array as a map of its file, read as it is used; None where it cannot be.

    What is compressed, small, damaged or unusual is read as usual, and refused there.
    """
    member = archive.NameToInfo.get(f"{name}.npy")
    if member is None or member.compress_type != zipfile.ZIP_STORED:
        return None
    if member.file_size < _MAPPED_BYTES:
        return None
    with source.open("rb") as file:
        file.seek(member.header_offset + _LENGTHS_AT)
        start = file.tell() + 4 + sum(struct.unpack("<HH", file.read(4)))
        file.seek(start)
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        read_header = readers.get(np.lib.format.read_magic(file))
        if read_header is None:
            return None
        shape, fortran, dtype = read_header(file)
        offset = file.tell()
    if dtype.hasobject or offset - start + math.prod(shape) * dtype.itemsize != member.file_size:
        return None
    whole = np.memmap(source, np.uint8, "r", start, (member.file_size,))
    if zlib.crc32(whole.data) != member.CRC:
        return None
    order: Literal["C", "F"] = "F" if fortran else "C"
    return np.asarray(np.memmap(source, dtype, "r", offset, shape, order))
