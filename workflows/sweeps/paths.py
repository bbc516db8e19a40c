"""Paths in a sweep file."""

from pathlib import Path

__all__ = ["resolve_path"]


def resolve_path(path: str, folder: Path) -> Path:
    """Return a path of a sweep file, relative to that file's folder unless absolute."""
    return (folder / Path(path).expanduser()).resolve()
