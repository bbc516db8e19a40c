"""Paths in a sweep file."""

from pathlib import Path

from sphere_core.foundation.errors import InputError

__all__ = ["resolve_path"]


def resolve_path(path: str, folder: Path) -> Path:
    """Return a path of a sweep file, relative to that file's folder unless absolute.

    Raises InputError for a symbolic link that leads to itself, and for a text that no path can be.
    """
    try:
        return (folder / Path(path).expanduser()).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"this is not a path: {error}", where=ascii(path)[1:-1][:300], remedy="check the path and its links"
        ) from error
