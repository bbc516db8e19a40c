"""A content-addressed store of second moments: one folder per set, one file per site.

A set's key is the digest of the model (config, weights, tokenizer files), the tokenizer, the corpus with its commit or
file digests, the amount, the length at which texts are cut, and the network's dtype. How it was computed (shards,
packing, machine) is not part of the key; it is recorded inside the files, with all of the above.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.fingerprint import file_digest, fingerprint
from sphere_core.foundation.lazy import load_object
from sphere_core.foundation.storage import Storage
from sphere_core.moments.file_digests import FileDigests, layer_file_name
from sphere_core.moments.headers import MomentsHeader, read_header

if TYPE_CHECKING:
    from sphere_core.moments.record import SecondMoments

__all__ = ["MomentsStore", "StoredFile", "StoredSet", "store_folder"]

VARIABLE = "SPHERE_MOMENTS"
# Arrays of a file are called layer8, gradient8, nullspace8.
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def store_folder(given: str | None) -> str:
    """Return the folder of the store: the given one, $SPHERE_MOMENTS, or a folder in the user's cache."""
    chosen = given or os.environ.get(VARIABLE)
    if chosen and "://" in chosen:
        return chosen
    return str((Path(chosen) if chosen else Path.home() / ".cache" / "sphere" / "moments").expanduser().resolve())


@dataclass(frozen=True)
class StoredFile:
    """One file of a set: its path below the store, its header, its size in bytes."""

    path: str
    header: MomentsHeader
    size: int

    @property
    def layers(self) -> list[int]:
        """The layers that it holds."""
        return sorted({int(name.lstrip(_LETTERS)) for name in self.header.shapes})


@dataclass(frozen=True)
class StoredSet:
    """All files of one key."""

    key: str
    files: tuple[StoredFile, ...]

    @property
    def provenance(self) -> Mapping[str, Any]:
        """The identity of the set; equal in all its files except for the sites."""
        return self.files[0].header.provenance

    @property
    def count(self) -> int:
        """Tokens; 0 for an imported null space."""
        return self.files[0].header.count

    @property
    def layers(self) -> list[int]:
        """All layers of the set."""
        return sorted({layer for file in self.files for layer in file.layers})


class MomentsStore:
    """A folder of second moments, on any storage."""

    def __init__(self, uri: str) -> None:
        self.storage = Storage(uri)

    @staticmethod
    def key_of(identity: Mapping[str, Any]) -> str:
        """Return the key of a set: 16 hex digits of the digest of its identity."""
        return fingerprint(dict(identity))[:16]

    @staticmethod
    def path(key: str, layer: int) -> str:
        """Return the path of one site's file."""
        return f"{key}/{layer_file_name(layer)}"

    def missing(self, key: str, layers: Sequence[int]) -> list[int]:
        """Return the layers of a set that are not stored."""
        return [layer for layer in layers if not self.storage.exists(self.path(key, layer))]

    def write(self, key: str, moments: "SecondMoments") -> None:
        """Publish one file per site; a second call replaces them."""
        write_moments = load_object("sphere_core.moments.files:write_moments")
        for layer in moments.layers:
            provenance = {**moments.provenance, "key": key}
            if "sites" in provenance:
                provenance["site"] = provenance.pop("sites")[str(layer)]
            one = replace(
                moments,
                by_layer={layer: moments.by_layer[layer]} if layer in moments.by_layer else {},
                provenance=provenance,
                null_spaces={layer: moments.null_spaces[layer]} if layer in moments.null_spaces else {},
                gradients={layer: moments.gradients[layer]} if layer in moments.gradients else {},
                routed={layer: moments.routed[layer]} if layer in moments.routed else {},
            )
            self.storage.write_file(self.path(key, layer), partial(write_moments, one))

    def sets(self) -> list[StoredSet]:
        """Return every set, in order of keys."""
        by_key: dict[str, list[StoredFile]] = {}
        for path in self.storage.list():
            key, _, name = path.partition("/")
            if name.startswith("layer") and name.endswith(".safetensors"):
                with self.storage.as_file(path) as local:
                    found = StoredFile(path, read_header(local), local.stat().st_size)
                by_key.setdefault(key, []).append(found)
        return [StoredSet(key, tuple(files)) for key, files in sorted(by_key.items())]

    def find(self, key: str) -> StoredSet:
        """Return the one set whose key begins with a text; raises InputError if there is none, or several."""
        sets = self.sets()
        found = [stored for stored in sets if stored.key.startswith(key)]
        if len(found) != 1:
            have = ", ".join(stored.key for stored in (found or sets)) or "none: the store is empty"
            raise InputError(
                f"no set '{key}' among the stored moments" if not found else f"several sets begin with '{key}'",
                where=self.storage.uri,
                remedy=f"'sphere moments list' shows them; there are {have}",
            )
        return found[0]

    def locate(self, name: str) -> Path:
        """Return the file or folder of moments that a path or a key names, on this machine.

        Raises InputError if it is neither.
        """
        path = Path(name).expanduser()
        if path.exists():
            return path
        if path.suffix or len(path.parts) > 1:
            raise InputError("moments file not found", where=name, remedy="check the path, or give a key of the store")
        folder = self.storage.local_path(self.find(name).key)
        if folder is None:
            raise InputError(
                "the store is not on this machine", where=self.storage.uri, remedy="give a local copy of the files"
            )
        return folder

    def read_layer(self, key: str, layer: int) -> "SecondMoments":
        """Return the moments of one site of a set."""
        with self.storage.as_file(self.path(key, layer)) as path:
            return _read_moments(path)

    def digests(self, key: str, layers: Sequence[int]) -> FileDigests:
        """Return the digests of the files of these layers of a set, by which a trajectory is named."""
        by_layer = {}
        for layer in layers:
            with self.storage.as_file(self.path(key, layer)) as path:
                by_layer[layer] = file_digest(path)
        return FileDigests(by_layer=by_layer)

    def read(self, name: str) -> "SecondMoments":
        """Return the moments that a path or a key names."""
        return _read_moments(self.locate(name))


def _read_moments(path: Path) -> "SecondMoments":
    """Read tensors; torch is imported here, so that listing loads none."""
    moments: SecondMoments = load_object("sphere_core.moments.files:read_moments")(path)
    return moments
