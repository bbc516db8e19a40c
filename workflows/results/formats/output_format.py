"""The formats of a table, and which one a command is to write. Loads no table library."""

from enum import Enum
from pathlib import Path

from sphere_core.foundation.errors import InputError, unknown_name

__all__ = ["Format", "chosen_format"]


class Format(Enum):
    """How a table is written."""

    MARKDOWN = "md"
    CSV = "csv"
    PARQUET = "parquet"
    JSON = "json"
    LATEX = "tex"
    HTML = "html"


def chosen_format(form: Format | None, out: Path | None, *, as_json: bool) -> Format | None:
    """Return the format: as given, else by the name of the file to write; None: whatever suits the terminal.

    Raises InputError if two are given, for a file name with an unknown suffix, and where Parquet has no file.
    """
    if as_json and form not in (None, Format.JSON):
        raise InputError("--json and --format exclude each other", remedy="leave one out")
    by_name = {f".{one.value}": one for one in Format}.get(out.suffix.lower()) if out is not None else None
    if out is not None and out.suffix and by_name is None and form is None and not as_json:
        raise unknown_name("suffix", out.suffix, [f".{one.value}" for one in Format], where=f"--out {out}")
    chosen = Format.JSON if as_json else form or by_name
    if chosen is Format.PARQUET and out is None:
        raise InputError("a Parquet table needs a file", where="--format parquet", remedy="add --out FILE.parquet")
    return chosen
