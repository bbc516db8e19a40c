"""Reading records from JSON, JSON lines, Parquet and CSV files, with errors that name the file and the line."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.json_files import read_text

__all__ = ["read_records"]

_SEPARATORS = {".csv": ",", ".tsv": "\t"}


def read_records(path: Path) -> list[Mapping[str, object]]:
    """Read a file of records: Parquet, CSV or TSV by their suffix, and otherwise a JSON list or one object a line.

    An empty cell of a CSV file counts as absent. Raises InputError for a missing, malformed or empty file.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        records = _parquet(path)
    elif suffix in _SEPARATORS:
        records = _table(path, _SEPARATORS[suffix])
    else:
        records = _json(path)
    if not isinstance(records, list) or not records:
        raise InputError("the file holds no record", where=str(path), remedy="give at least one record")
    for index, record in enumerate(records):
        if not isinstance(record, dict):
            raise InputError(
                f"record {index} is a {type(record).__name__}, not an object",
                where=str(path),
                remedy="every record must be a JSON object",
            )
    return list(records)


def _json(path: Path) -> object:
    text = read_text(path, what="requests file").removeprefix("\ufeff")
    line = 1
    try:
        if text.lstrip().startswith("["):
            return json.loads(text)
        records = []
        # Not splitlines(): a JSON text may hold U+2028, which that takes for the end of a line.
        for line, part in enumerate(text.split("\n"), start=1):  # noqa: B007
            if part.strip():
                records.append(json.loads(part))
    except json.JSONDecodeError as error:
        raise InputError(
            f"not valid JSON: {error.msg}",
            where=f"{path}, line {line + error.lineno - 1}, column {error.colno}",
            remedy="the file must be a JSON list of records, or one record a line",
        ) from error
    return records


def _parquet(path: Path) -> object:
    if not path.is_file():
        raise InputError("requests file not found", where=str(path), remedy="check the path")
    try:
        return pq.read_table(path).to_pylist()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"not a readable Parquet file: {reason}", where=str(path), remedy="fetch it again, or convert it to JSON"
        ) from error


def _table(path: Path, separator: str) -> object:
    text = read_text(path, what="requests file").removeprefix("\ufeff")
    # Not splitlines(), as above; newline="" leaves line ends inside of cells alone.
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    records = []
    try:
        _check_columns([name.strip() for name in reader.fieldnames or ()], f"{path}, line 1")
        for cells in reader:
            where = f"{path}, line {reader.line_num}"
            if None in cells or None in cells.values():
                raise InputError(
                    f"the line does not have the {len(reader.fieldnames or ())} cells of the first line",
                    where=where,
                    remedy="put a text that holds a separator between double quotes",
                )
            records.append({name.strip(): text for name, text in cells.items() if text.strip()})
    except csv.Error as error:
        raise InputError(f"not valid CSV: {error}", where=f"{path}, line {reader.line_num}") from error
    return records


def _check_columns(names: list[str], where: str) -> None:
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if twice is not None:
        raise InputError(f"two columns are called '{twice}'", where=where, remedy="give every column its own name")
    if len(names) == 1 and ";" in names[0]:
        raise InputError(
            "the columns are separated by ';'", where=where, remedy="save the file with commas, or as .tsv with tabs"
        )
