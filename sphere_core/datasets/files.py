"""Reading records from JSON, JSON lines, Parquet and CSV files, plain or compressed, with errors that name file and
line."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow.parquet as pq

from sphere_core.datasets.wrapped import unwrapped
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.json_files import json_kind, json_values
from sphere_core.foundation.user_files import DATA_BYTES, library_errors, open_file, read_text, refuse_wrong_kind

__all__ = ["read_records"]

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_PACKED = {".gz", ".bz2", ".xz", ".zst"}
# A cell of a CSV file may hold a list of probes or a long text; the module's own limit is 131,072 characters.
_CELL_CHARACTERS = 1 << 24
# How pandas calls the index that it writes as a column.
_INDEX_NAMES = ("", "index", "level_0")
_INDEX_STARTS = ("Unnamed: ", "__index_level_")


def read_records(path: Path) -> list[Mapping[str, object]]:
    """Read a file of records: Parquet, CSV or TSV by their suffix, and otherwise JSON.

    JSON may be a list, one object a line, objects one after another, one object that holds the list under a name such
    as `data`, or one object of records by id (which becomes their `case_id`). Text may be compressed (gzip, bzip2, xz,
    zstd). An empty cell of a CSV file counts as absent. Raises InputError for a missing, malformed or empty file.
    """
    suffix = _suffix(path)
    if suffix == ".parquet":
        records: Sequence[object] = _parquet(path)
    elif suffix in _SEPARATORS:
        records = _table(path, _SEPARATORS[suffix])
    else:
        records = _json(path)
    if not records:
        raise InputError("the file holds no record", where=str(path), remedy="give at least one record")
    for index, record in enumerate(records):
        if not isinstance(record, dict):
            raise InputError(
                f"record {index} is {json_kind(record)}, not an object",
                where=str(path),
                remedy="every record must be a JSON object",
            )
    return list(records)  # type: ignore[arg-type]  # every one of them is a dict


def _suffix(path: Path) -> str:
    """Return what kind of file its name says it is, a suffix of compression aside."""
    suffixes = [part.lower() for part in path.suffixes]
    if suffixes and suffixes[-1] in _PACKED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _json(path: Path) -> Sequence[object]:
    text = read_text(path, what="requests file", at_most=DATA_BYTES)
    values = [value for value, _ in json_values(text, where=str(path))]
    is_list = text.lstrip()[:1] == "["
    if len(values) == 1 and isinstance(values[0], dict) and not is_list:
        return unwrapped(values[0], where=str(path))
    return values


def _parquet(path: Path) -> Sequence[object]:
    what = "requests file"
    refuse_wrong_kind(path, what=what, pointers_only=False)
    with open_file(path, what=what) as file, library_errors(path, what=what, remedy="fetch it again, or use JSON"):
        records: list[object] = pq.read_table(file).to_pylist()
    if records and isinstance(records[0], dict):
        _refuse_index(list(records[0]), str(path))
    return records


def _table(path: Path, separator: str) -> Sequence[object]:
    text = read_text(path, what="requests file", at_most=DATA_BYTES)
    if not text.strip():
        return []
    first, _, rest = text.partition("\n")
    skipped = 0
    # Excel's way of naming the separator, in a line before the columns.
    if first.strip().strip('"').lower().startswith("sep=") and len(first.strip().strip('"')) == len("sep=,"):
        separator, text, skipped = first.strip().strip('"')[-1], rest, 1
    elif first.strip().lower() == "sep=":
        separator, text, skipped = "\t", rest, 1
    csv.field_size_limit(_CELL_CHARACTERS)
    # Not splitlines(): a text may hold U+2028, which that takes for the end of a line; newline="" leaves line ends
    # inside of cells alone.
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    records: list[object] = []
    try:
        columns = [name.strip() for name in reader.fieldnames or ()]
        _check_columns(columns, f"{path}, line {1 + skipped}")
        for cells in reader:
            where = f"{path}, line {reader.line_num + skipped}"
            if None in cells or None in cells.values():
                raise InputError(
                    f"the line does not have the {len(columns)} cells of the first line",
                    where=where,
                    remedy="put a text that holds a separator between double quotes",
                )
            records.append({name.strip(): text for name, text in cells.items() if text.strip()})
    except csv.Error as error:
        raise InputError(
            f"not valid CSV: {error}",
            where=f"{path}, line {reader.line_num + skipped}",
            remedy="double a quotation mark inside a quoted cell",
        ) from error
    return records


def _check_columns(names: list[str], where: str) -> None:
    _refuse_index(names, where)
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if twice is not None:
        raise InputError(f"two columns are called '{twice}'", where=where, remedy="give every column its own name")
    for mark, remedy in ((";", "save the file with commas, or as .tsv with tabs"), ("\t", "call the file .tsv")):
        if len(names) == 1 and mark in names[0]:
            raise InputError(
                f"the columns are separated by {'tabs' if mark == chr(9) else repr(mark)}", where=where, remedy=remedy
            )


def _refuse_index(names: list[str], where: str) -> None:
    for place, name in enumerate(names):
        if name in _INDEX_NAMES or name.startswith(_INDEX_STARTS):
            called = f"is called '{name}'" if name else "has no name"
            raise InputError(
                f"column {place + 1} {called}: it looks like the index that pandas writes",
                where=where,
                remedy="leave it out: to_csv(..., index=False), or the same of to_parquet; or name it case_id",
            )
