"""A file of second moments of the embedded model, as the command builds it."""

from pathlib import Path

import pytest
from command_line import sphere

__all__ = ["factworld_moments"]


def factworld_moments(folder: Path) -> Path:
    """Build second moments of two layers; return their file. Beside it is a store with the same set."""
    file = folder / "moments.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        built = ("moments", "build", "factworld", "--layers", "0,1", "--corpus", "factworld", "--sentences", 300)
        assert sphere(patch, *built, "--store", folder / "store", "--out", file) == 0
    return file
