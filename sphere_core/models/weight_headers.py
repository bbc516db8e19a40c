"""What a model's weight files hold: names, dtypes and shapes by their headers, and whether a weight is finite.

Loads no torch: a sweep is planned with it.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.user_files import open_file
from sphere_core.models.sites import Site

__all__ = ["StoredWeight", "check_shapes", "check_weights", "read_weight_headers", "stored_site"]

# Bytes of a number, and the bits of its exponent: all of them set means infinite or not a number.
_FLOATS = {
    "F64": ("<u8", 0x7FF0_0000_0000_0000),
    "F32": ("<u4", 0x7F80_0000),
    "BF16": ("<u2", 0x7F80),
    "F16": ("<u2", 0x7C00),
}
_CHUNK = 1 << 24
# The format's own limit.
_MOST_HEADER_BYTES = 100_000_000


@dataclass(frozen=True)
class StoredWeight:
    """One weight in a file: its dtype as the file calls it, its shape, and where its bytes begin and end."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_weight_headers(folder: Path) -> dict[str, StoredWeight]:
    """Return every weight of a folder's safetensors files by its name; raises InputError for a damaged header."""
    found: dict[str, StoredWeight] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            found |= _read(path)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            raise InputError(
                f"{path.name} is not a whole safetensors file ({type(error).__name__})",
                where=str(path),
                remedy="fetch the file again",
            ) from error
    return found


def _read(path: Path) -> dict[str, StoredWeight]:
    with open_file(path, what="weight file") as file:
        size = int.from_bytes(file.read(8), "little")
        if not 0 < size <= _MOST_HEADER_BYTES:
            raise ValueError(size)
        header: Mapping[str, dict[str, list[int]]] = json.loads(file.read(size))
    weights = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = (8 + size + int(offset) for offset in entry["data_offsets"])
            weights[name] = StoredWeight(path, str(entry["dtype"]), tuple(map(int, entry["shape"])), begin, end)
    return weights


def stored_site(site: Site, stored: Mapping[str, StoredWeight]) -> StoredWeight | None:
    """Return the weight of a site; files may leave out the first part of its name. None if they hold none."""
    return stored.get(site.name) or stored.get(site.name.partition(".")[2])


def check_weights(folder: Path, sites: Sequence[Site]) -> None:
    """Raise InputError if an edited weight is not of floating point, or any weight holds a number that is not finite.

    Reads every weight's bytes once, a few megabytes at a time.
    """
    stored = read_weight_headers(folder)
    for site in sites:
        found = stored_site(site, stored)
        if found is not None and found.dtype not in _FLOATS:
            raise InputError(
                f"the weight {site.name} is stored as {found.dtype}, which cannot be edited",
                where=str(found.path),
                remedy="give the model in float32, float16 or bfloat16",
            )
    for name, weight in stored.items():
        # Masks and tables that some files hold beside the weights may be infinite on purpose.
        if name.endswith(".weight") and weight.dtype in _FLOATS:
            _require_finite(name, weight)


def check_shapes(folder: Path, shapes: Mapping[str, tuple[int, ...]], sites: Sequence[Site]) -> None:
    """Raise InputError for a weight whose stored shape is not the model's, and for a site that the files lack.

    `shapes` are those of the modules that the config describes. Names that only one side has are passed over, since
    transformers renames some: a site is lacking if the files name another site as the modules do, or if none of their
    names ends as that of a site does (a model inside a larger one has a longer name).
    """
    stored = read_weight_headers(folder)
    for name, shape in shapes.items():
        found = stored.get(name)
        if found is not None and found.shape != shape:
            raise InputError(
                f"the weight {name} has the shape {list(found.shape)}, the config describes {list(shape)}",
                where=f"{found.path} and config.json",
                remedy="fetch the model again: weights and config.json are not of one model",
            )
    # Files hold experts apart, under names of their own; loading says which are missing.
    lacking = [site for site in sites if not site.experts and stored_site(site, stored) is None]
    if lacking and (len(lacking) < len(sites) or (stored and not any(_ends_alike(site, stored) for site in sites))):
        raise InputError(
            f"the files lack {len(lacking)} of the model's weights: {lacking[0].name}",
            where=str(folder),
            remedy="fetch the model again, or give the checkpoint of a causal language model",
        )


def _ends_alike(site: Site, stored: Mapping[str, StoredWeight]) -> bool:
    """Return whether a stored name ends in the layer's number and what follows it in the site's name."""
    number = f".{site.layer}."
    ending = number + site.name.partition(number)[2]
    return any(name.endswith(ending) for name in stored)


def _require_finite(name: str, weight: StoredWeight) -> None:
    kind, exponent = _FLOATS[weight.dtype]
    count = math.prod(weight.shape)
    if not count:
        return
    numbers = np.memmap(weight.path, dtype=kind, mode="r", offset=weight.begin, shape=(count,))
    for start in range(0, count, _CHUNK):
        if bool(((numbers[start : start + _CHUNK] & exponent) == exponent).any()):
            raise InputError(
                f"the weight {name} holds numbers that are not finite",
                where=str(weight.path),
                remedy="fetch the model again, or give a checkpoint that has not collapsed",
            )
