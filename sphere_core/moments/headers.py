"""The header of a file of second moments. Loads no torch and reads no array."""

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.user_files import library_errors, refuse_wrong_kind

__all__ = ["REBUILD", "MomentsHeader", "moments_file_errors", "open_npz", "read_header"]

REBUILD = "fetch the file again, or build it: sphere moments build MODEL --corpus ... --tokens ..."


def moments_file_errors(path: Path) -> AbstractContextManager[None]:
    """Turn what a library raises about a file of second moments into an InputError."""
    return library_errors(path, what="a file of second moments", remedy=REBUILD)


@contextmanager
def open_npz(path: Path, *, what: str, remedy: str = REBUILD) -> Iterator[Mapping[str, Any]]:
    """Open an npz file without pickles; whatever goes wrong with it, also later, is an InputError."""
    refuse_wrong_kind(path, what=what)
    with library_errors(path, what=what, remedy=remedy):
        # numpy takes what is not a zip archive for a pickle, and proposes to load it unsafely.
        if not zipfile.is_zipfile(path):
            raise InputError(f"{what} is not an npz file, or is cut off", where=str(path), remedy=remedy)
        with np.load(path, allow_pickle=False) as archive:
            yield archive


@dataclass(frozen=True)
class MomentsHeader:
    """What a file of second moments records of its arrays; keys are field names.

    `count` are the tokens of the sums, `provenance` says what they are of, `digests` has one digest per array,
    `complement` whether the basis of a null space spans its complement, by layer; without null spaces it is not stored.
    `shapes` are those of the arrays: the file's own, no part of the record.
    """

    count: int = 0
    provenance: Mapping[str, Any] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    complement: Mapping[str, bool] = field(default_factory=dict)
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def encode(self) -> dict[str, str]:
        """Return the metadata of the file. One key only: safetensors keeps several in no fixed order."""
        stored = {name: getattr(self, name) for name in _STORED if name != "complement" or self.complement}
        return {_METADATA: json.dumps(stored, sort_keys=True)}

    @classmethod
    def decode(cls, metadata: Mapping[str, str], shapes: Mapping[str, Sequence[int]]) -> "MomentsHeader":
        """Read the metadata of a file; raises ValueError with what in it is not of the form that we write.

        What is missing has its default; keys of a later release are ignored.
        """
        try:
            record = json.loads(metadata.get(_METADATA, "{}"))
        except json.JSONDecodeError as error:
            raise ValueError(f"the header is not JSON: {error}") from error
        if not isinstance(record, dict):
            raise ValueError("the header is not a JSON object")
        found = cls(**{name: record[name] for name in _STORED if name in record}, shapes=shapes)
        fault = next(_faults(found), None)
        if fault is not None:
            raise ValueError(fault)
        return found


_METADATA = "moments"
_STORED = tuple(one.name for one in fields(MomentsHeader) if one.name != "shapes")


def read_header(path: Path) -> MomentsHeader:
    """Return the header of one of our files and the shape of every array; reads no array.

    Raises InputError if it is not such a file.
    """
    refuse_wrong_kind(path, what="moments file")
    with moments_file_errors(path), safe_open(path, framework="numpy") as archive:
        metadata = archive.metadata() or {}
        shapes = {name: archive.get_slice(name).get_shape() for name in archive.keys()}  # noqa: SIM118
    try:
        return MomentsHeader.decode(metadata, shapes)
    except ValueError as error:
        raise InputError(str(error), where=f"{path}, header", remedy=REBUILD) from error


def _faults(header: MomentsHeader) -> Iterator[str]:
    count, made_of, sides = header.count, header.provenance, header.complement
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        yield f"count is {str(count)[:40]}: it must be a number of tokens"
    if not isinstance(made_of, dict) or not isinstance(made_of.get("model_digest", ""), str):
        yield "provenance does not hold names and values"
    if not isinstance(header.digests, dict):
        yield "digests does not hold names and values"
    spaces = [name.removeprefix("nullspace") for name in header.shapes if name.startswith("nullspace")]
    if not isinstance(sides, dict) or any(not isinstance(sides.get(layer), bool) for layer in spaces):
        yield "complement does not say of every null space which side it holds"
