"""The header of a file of second moments. Loads no torch and reads no array."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from sphere_core.foundation.errors import InputError

__all__ = ["read_header"]


def read_header(path: Path) -> dict[str, Any]:
    """Return the header of one of our files (count, provenance) and the shape of every array; reads no array.

    Raises InputError if it is not such a file.
    """
    try:
        with safe_open(path, framework="numpy") as archive:
            header = json.loads((archive.metadata() or {}).get("moments", "{}"))
            shapes = {name: archive.get_slice(name).get_shape() for name in archive.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise InputError(f"not a readable safetensors file: {error}", where=str(path)) from error
    return {"count": 0, "provenance": {}, **header, "shapes": shapes}
