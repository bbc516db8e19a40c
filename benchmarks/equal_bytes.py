"""Whether two runs of a sweep have left the same bytes: all rows and checkpoints, timings and progress aside."""

import hashlib
from pathlib import Path

from sphere_core.foundation.storage import Storage

__all__ = ["differing", "results"]


def results(root: Path) -> dict[str, str]:
    """Return the SHA-256 digest of every row file and checkpoint file below a sweep's root, by name."""
    storage = Storage(root)
    names = (name for name in storage.list() if name.startswith("rows/") or "/checkpoints/" in name)
    return {name: hashlib.sha256(storage.read_bytes(name)).hexdigest() for name in names}


def differing(one: Path, other: Path) -> tuple[str, ...]:
    """Return the names of the rows and checkpoints that differ between two roots, or are in one only."""
    expected, found = results(one), results(other)
    return tuple(sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)))
