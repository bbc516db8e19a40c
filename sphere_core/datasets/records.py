"""Reading JSON records with errors that name the file, the record and the field."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from sphere_core.errors import InputError
from sphere_core.json_files import read_text
from sphere_core.requests import EditRequest

__all__ = ["optional_text", "placed", "read_records", "required_text", "text_list"]


def read_records(path: Path) -> list[Mapping[str, object]]:
    """Read a JSON list (or JSON lines) of objects; raises InputError for a missing or malformed file."""
    text = read_text(path, what="requests file")
    try:
        if text.lstrip().startswith("["):
            records = json.loads(text)
        else:
            records = [json.loads(line) for line in text.splitlines() if line.strip()]
    except json.JSONDecodeError as error:
        raise InputError(
            f"not valid JSON: {error.msg}",
            where=f"{path}, line {error.lineno}, column {error.colno}",
            remedy="the file must be a JSON list of records, or one record a line",
        ) from error
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


def required_text(record: Mapping[str, object], field: str, *, where: str) -> str:
    """Return a non-empty text at a dotted field path; raises InputError naming the part that is missing."""
    value: object = record
    walked: list[str] = []
    for part in field.split("."):
        walked.append(part)
        if not isinstance(value, Mapping) or value.get(part) is None:
            raise InputError(
                f"field '{'.'.join(walked)}' is missing",
                where=where,
                remedy=f"every record needs '{field}'",
            )
        value = value[part]
    if not isinstance(value, str) or not value.strip():
        raise InputError(
            f"field '{field}' must be a non-empty text, not {value!r}", where=where, remedy="write a text there"
        )
    return value


def optional_text(record: Mapping[str, object], field: str, *, where: str) -> str | None:
    """Return the text at a dotted field path without blanks around it, None where any part of the path is absent.

    A field that is present must hold a non-empty text; null counts as absent, as columnar files write it.
    """
    value: object = record
    for part in field.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return None if value is None else required_text(record, field, where=where).strip()


def text_list(record: Mapping[str, object], field: str, *, where: str) -> list[str]:
    """Return a list of texts, empty where the field is absent."""
    value = record.get(field)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InputError(
            f"field '{field}' must be a list of texts", where=where, remedy='write a list such as ["one", "another"]'
        )
    return list(value)


def placed(build: Callable[[], EditRequest], *, where: str) -> EditRequest:
    """Build a request; what is wrong with it is told with the file and the record it stands in."""
    try:
        return build()
    except InputError as error:
        field = (error.where or "").rpartition(", ")[2]
        raise InputError(error.what, where=f"{where}, {field}", remedy=error.remedy) from error
