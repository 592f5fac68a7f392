"""A bundle: the folder that every part passes on. Read with checks, written whole or not at all.

A file is opened only through :meth:`Bundle.open_file`, which compares its hash with the manifest's.
Pickle is never read: only the kinds of files in ``ALLOWED_SUFFIXES`` may be in a bundle at all.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.core.archives import write_archive
from edgeml.core.files import check_place, inside, sha256_of, staged_folder, write_json
from edgeml.core.manifest import SCHEMA_VERSION, Manifest, Variant
from edgeml.errors import BundleError, InputError, IntegrityError

ALLOWED_SUFFIXES = frozenset(
    {".json", ".onnx", ".data", ".npz", ".txt"}
    | {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff"}
)
MANIFEST = "manifest.json"
GOLDEN = "golden/golden.json"
SEAL = "manifest_sha256"
REFERENCE = "reference.json"
_MAX_MANIFEST_BYTES = 16 << 20


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of a verification."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, kw_only=True)
class Golden:
    """A few real inputs, the tensors they become, and what each variant answered to them.

    Attributes:
        inputs: Paths of the original inputs inside the bundle.
        tensors: Input name to array, batch first: the preprocessed inputs.
        outputs: Variant name to output name to array, batch first.
        tolerance: Variant name to the largest difference allowed when they are replayed.
    """

    inputs: tuple[str, ...]
    tensors: Mapping[str, npt.NDArray[Any]]
    outputs: Mapping[str, Mapping[str, npt.NDArray[Any]]]
    tolerance: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A readable bundle. ``path`` is its folder, ``manifest`` what it says of itself."""

    path: Path
    manifest: Manifest

    def __fspath__(self) -> str:
        return str(self.path)

    @classmethod
    def read(cls, path: str | Path) -> Bundle:
        """Read a bundle's manifest; no other file is opened yet.

        Args:
            path: The bundle's folder.

        Raises:
            BundleError: It is not a bundle, or has a schema version that this edgeml does not know.
            IntegrityError: Its manifest is damaged or contradicts itself.
        """
        root = Path(path)
        file = root / MANIFEST
        if not file.is_file():
            reason = f"this is not a bundle: it has no {MANIFEST}; 'edgeml export' makes one"
            raise BundleError(path=str(root), reason=reason)
        if file.stat().st_size > _MAX_MANIFEST_BYTES:
            raise _damaged(root, f"{MANIFEST} is larger than {_MAX_MANIFEST_BYTES} bytes")
        try:
            value = json.loads(file.read_bytes())
        except (ValueError, RecursionError) as exc:
            raise _damaged(root, f"{MANIFEST} is not JSON ({exc})") from exc
        if not isinstance(value, dict) or "schema_version" not in value:
            raise _damaged(root, f"{MANIFEST} has no 'schema_version'")
        if type(value["schema_version"]) is not int or value["schema_version"] != SCHEMA_VERSION:
            reason = (
                f"schema_version is {value['schema_version']!r}; this edgeml reads "
                f"{SCHEMA_VERSION}; export the bundle again or install a matching edgeml"
            )
            raise BundleError(path=str(root), reason=reason)
        try:
            manifest = Manifest.from_json(value)
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            text = f"no key {exc}" if isinstance(exc, KeyError) else str(exc)
            raise _damaged(
                root, f"{MANIFEST} does not fit schema {SCHEMA_VERSION}: {text}"
            ) from exc
        if value.get(SEAL) != seal_of(value):
            raise _damaged(root, f"{MANIFEST} has changed since it was written")
        for relative in manifest.files:
            inside(root, relative)
            _check_kind(root, relative)
        return cls(path=root, manifest=manifest)

    def variant(self, name: str | None = None) -> Variant:
        """Return a variant by name, or the chosen one.

        Raises:
            InputError: There is no such variant.
        """
        wanted = self.manifest.chosen if name is None else name
        found = self.manifest.variant(wanted)
        if found is None:
            names = ", ".join(row.name for row in self.manifest.variants)
            raise InputError(f"there is no variant '{wanted}'; this bundle has {names}; name one")
        return found

    def open_file(self, relative: str) -> bytes:
        """Read one file of the bundle after comparing its hash with the manifest's.

        Raises:
            IntegrityError: The file is missing, unlisted, changed, or outside the folder.
        """
        path = self._listed(relative)
        self._compare(relative, path)
        return path.read_bytes()

    def checked_path(self, relative: str, *, check_hash: bool = True) -> Path:
        """Return the path of a listed file, for libraries that read files themselves.

        Args:
            relative: Path inside the bundle.
            check_hash: Whether the contents are compared with the manifest's hash.

        Raises:
            IntegrityError: The file is missing, unlisted, outside the folder, or changed.
        """
        path = self._listed(relative)
        if check_hash:
            self._compare(relative, path)
        return path

    def golden(self) -> Golden:
        """Read the golden examples.

        Raises:
            IntegrityError: A file is missing, changed or malformed.
        """
        index = self.read_json(GOLDEN)
        try:
            return Golden(
                inputs=tuple(index["inputs"]),
                tensors=self._arrays(index["tensors"]),
                outputs={name: self._arrays(file) for name, file in index["outputs"].items()},
                tolerance={name: float(value) for name, value in index["tolerance"].items()},
            )
        except BundleError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise _damaged(self.path, f"{GOLDEN} is malformed: {exc}") from exc

    def read_json(self, relative: str) -> Any:
        """Read a JSON file of the bundle.

        Raises:
            IntegrityError: The file is missing, changed or not JSON.
        """
        try:
            return json.loads(self.open_file(relative))
        except (ValueError, RecursionError) as exc:
            if isinstance(exc, BundleError):
                raise
            raise _damaged(self.path, f"{relative} is not JSON ({exc})") from exc

    def verify_files(self) -> list[Check]:
        """Compare every listed file with its hash, and name files that nobody listed."""
        checks = []
        for relative in self.manifest.files:
            try:
                self.checked_path(relative)
                checks.append(Check(name=relative, ok=True, detail="hash matches"))
            except BundleError as exc:
                checks.append(Check(name=relative, ok=False, detail=exc.reason))
        listed = {*self.manifest.files, MANIFEST}
        for path in sorted(self.path.rglob("*")):
            relative = path.relative_to(self.path).as_posix()
            if not path.is_dir() and relative not in listed:
                detail = "the manifest does not list this file; remove it"
                checks.append(Check(name=relative, ok=False, detail=detail))
        return checks

    def _arrays(self, relative: str) -> dict[str, npt.NDArray[Any]]:
        data = self.open_file(relative)
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except Exception as exc:
            text = " ".join(str(exc).split())
            raise _damaged(self.path, f"'{relative}' holds no plain arrays ({text})") from exc

    def _listed(self, relative: str) -> Path:
        path = inside(self.path, relative)
        if relative not in self.manifest.files:
            raise _damaged(self.path, f"the manifest does not list '{relative}'")
        _check_kind(self.path, relative)
        try:
            found = path.is_file()
        except OSError:  # such as a name that is too long for this file system
            found = False
        if not found:
            raise _damaged(self.path, f"the file '{relative}' is missing")
        return path

    def _compare(self, relative: str, path: Path) -> None:
        size_bytes = path.stat().st_size
        for row in self.manifest.variants:
            if row.file == relative and row.size_bytes != size_bytes:
                reason = f"'{relative}' has {size_bytes} bytes; the manifest says {row.size_bytes}"
                raise _damaged(self.path, reason)
        expected, got = self.manifest.files[relative], sha256_of(path)
        if got != expected:
            reason = f"'{relative}' has the sha256 {got[:12]}…; the manifest says {expected[:12]}…"
            raise _damaged(self.path, reason)


def seal_of(manifest: Mapping[str, Any]) -> str:
    """Return the hash of a manifest's JSON values without the seal itself.

    It finds damage, as the hashes of the files do; it is no signature.
    """
    rest = {key: value for key, value in manifest.items() if key != SEAL}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def write_bundle(folder: Path, manifest: Manifest, *, place: Path) -> Bundle:
    """Finish a staged folder: hash its files, write the manifest, and read it back.

    Args:
        folder: Folder that holds every file of the bundle except the manifest.
        manifest: The manifest; its ``files`` are replaced by what is there.
        place: Where the folder will stand, for messages only.

    Returns:
        The bundle as it is readable at ``folder``.

    Raises:
        ValueError: The folder holds a kind of file that no bundle may have.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in paths:
        if path.suffix not in ALLOWED_SUFFIXES:
            raise ValueError(f"{place}: a bundle may not hold '{path.name}'")
    files = {path.relative_to(folder).as_posix(): sha256_of(path) for path in paths}
    files.pop(MANIFEST, None)  # of an earlier version, when a bundle is copied and extended
    value = replace(manifest, files=files).to_json()
    write_json(folder / MANIFEST, {**value, SEAL: seal_of(value)})
    return Bundle.read(folder)


def write_golden(folder: Path, golden: Golden) -> None:
    """Write golden examples into a staged bundle; the inputs' files must be there already."""
    (folder / "golden").mkdir(exist_ok=True)
    (folder / "golden/tensors.npz").write_bytes(write_archive(_plain(golden.tensors)))
    for name, arrays in golden.outputs.items():
        (folder / f"golden/outputs-{name}.npz").write_bytes(write_archive(_plain(arrays)))
    index = {
        "inputs": list(golden.inputs),
        "tensors": "golden/tensors.npz",
        "outputs": {name: f"golden/outputs-{name}.npz" for name in golden.outputs},
        "tolerance": dict(golden.tolerance),
    }
    write_json(folder / GOLDEN, index)


def check_replaceable(place: Path) -> None:
    """Refuse to overwrite anything that is not a bundle, and a place that cannot be written.

    Raises:
        InputError: ``place`` exists and is neither an empty folder nor a bundle, or cannot be made.
    """
    check_place(place, marker=MANIFEST, kind="bundle")


__all__ = [
    "ALLOWED_SUFFIXES",
    "GOLDEN",
    "MANIFEST",
    "REFERENCE",
    "Bundle",
    "Check",
    "Golden",
    "check_replaceable",
    "staged_folder",
    "write_bundle",
    "write_golden",
]


def _plain(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def _check_kind(root: Path, relative: str) -> None:
    if Path(relative).suffix not in ALLOWED_SUFFIXES:
        raise _damaged(root, f"'{relative}' is of a kind that no bundle may hold (pickle never is)")


def _damaged(root: Path, reason: str) -> IntegrityError:
    advice = "the bundle is damaged: copy or export it again"
    return IntegrityError(path=str(root), reason=f"{reason}; {advice}")
