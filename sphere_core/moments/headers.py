"""The header of a file of second moments. Loads no torch and reads no array."""

import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.user_files import library_errors, refuse_wrong_kind

__all__ = ["REBUILD", "moments_file_errors", "open_npz", "read_header"]

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


def read_header(path: Path) -> dict[str, Any]:
    """Return the header of one of our files (count, provenance) and the shape of every array; reads no array.

    Raises InputError if it is not such a file.
    """
    refuse_wrong_kind(path, what="moments file")
    with moments_file_errors(path), safe_open(path, framework="numpy") as archive:
        header = json.loads((archive.metadata() or {}).get("moments", "{}"))
        shapes = {name: archive.get_slice(name).get_shape() for name in archive.keys()}  # noqa: SIM118
    found = {"count": 0, "provenance": {}, "complement": {}, **header} if isinstance(header, dict) else {}
    fault = next(_faults(found, shapes), None)
    if fault is not None:
        raise InputError(fault, where=f"{path}, header", remedy=REBUILD)
    return {**found, "shapes": shapes}


def _faults(header: dict[str, Any], shapes: dict[str, Any]) -> Iterator[str]:
    """Yield what in a header is not of the form that we write."""
    if not header:
        yield "the header is not a JSON object"
        return
    count = header["count"]
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        yield f"count is {str(count)[:40]}: it must be a number of tokens"
    provenance = header["provenance"]
    if not isinstance(provenance, dict) or not isinstance(provenance.get("model_digest", ""), str):
        yield "provenance does not hold names and values"
    sides = header["complement"]
    spaces = [name.removeprefix("nullspace") for name in shapes if name.startswith("nullspace")]
    if not isinstance(sides, dict) or any(not isinstance(sides.get(layer), bool) for layer in spaces):
        yield "complement does not say of every null space which side it holds"
