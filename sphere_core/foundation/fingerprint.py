"""Identity by content: canonical JSON for settings, digests of files."""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path

__all__ = ["canonical_json", "file_digest", "fingerprint"]

_CHUNK_BYTES = 1 << 20
# What most settings consist of.
_PLAIN = frozenset({str, bool, int, type(None)})


def canonical_json(value: object) -> str:
    """Encode a value so that equal settings give equal text.

    Keys are sorted and there is no white space. Raises TypeError on anything without a stable
    identity (objects, callables, sets) and ValueError on NaN or infinity: a permissive fallback
    would silently split one experiment into two.
    """
    _require_stable(value, "$")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def fingerprint(value: object) -> str:
    """Return the sha256 (64 hex digits) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _require_stable(value: object, place: str) -> None:
    if value is None or isinstance(value, str | bool | int):
        return  # with subclasses of the plain ones, such as enumerations
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{place} is {value}: not a stable identity")
        return
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{place} has the key {key!r}: keys must be strings")
            if type(item) not in _PLAIN:
                _require_stable(item, f"{place}.{key}")
        return
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            if type(item) not in _PLAIN:
                _require_stable(item, f"{place}[{index}]")
        return
    raise TypeError(f"{place} is a {type(value).__name__}: it has no stable identity")
