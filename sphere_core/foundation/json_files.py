"""Reading a JSON file that a user gives, with errors that name it."""

import json
from pathlib import Path
from typing import Any

from sphere_core.foundation.errors import InputError

__all__ = ["read_json", "read_text"]


def read_text(path: Path, *, what: str) -> str:
    """Return a file's UTF-8 text; raises InputError if it is missing or not UTF-8."""
    if not path.is_file():
        fault = "must be a file, and this is a folder" if path.is_dir() else "not found"
        raise InputError(f"{what} {fault}", where=str(path), remedy="check the path")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"not UTF-8 text: {error.reason} at byte {error.start}",
            where=str(path),
            remedy="save the file as UTF-8; with iconv: iconv -f UTF-16 -t UTF-8 FILE > NEW_FILE (or -f LATIN1)",
        ) from error


def read_json(path: Path, *, what: str) -> Any:
    """Return a file's JSON value; raises InputError if it is missing or malformed, with line and column."""
    text = read_text(path, what=what)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"{path}, line {error.lineno}, column {error.colno}"
        raise InputError(f"not valid JSON: {error.msg}", where=place) from error
