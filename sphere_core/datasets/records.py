"""Fields of a record, with errors that name the file, the record and the field."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sphere_core.foundation.errors import InputError
from sphere_core.requests import EditRequest

__all__ = ["Record", "optional_text", "placed", "required_text", "text_list", "where_is"]


@dataclass(frozen=True)
class Record:
    """The edit requests of one record of a data set, which stay together in every order: one, or in MQuAKE several."""

    case_id: str
    requests: tuple[EditRequest, ...]


def where_is(record: Mapping[str, object], index: int, source: str) -> tuple[str, str]:
    """Return a record's case id (its place in the file where it has none) and how errors call the record."""
    given = record.get("case_id")
    case_id = str(index if given is None else given)
    return case_id, f"{source}, record {index} (case {case_id})"


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


def text_list(record: Mapping[str, object], field: str, *, where: str, blanks: bool = False) -> list[str]:
    """Return a list of texts, empty where the field is absent; a text of blanks is refused unless `blanks`."""
    value = record.get(field)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InputError(
            f"field '{field}' must be a list of texts", where=where, remedy='write a list such as ["one", "another"]'
        )
    blank = next((place for place, item in enumerate(value) if not item.strip()), None)
    if blank is not None and not blanks:
        raise InputError(
            f"entry {blank} of field '{field}' is empty",
            where=f"{where}, field {field}",
            remedy="write a text there, or take the entry out",
        )
    return list(value)


def placed(build: Callable[[], EditRequest], *, where: str) -> EditRequest:
    """Build a request; what is wrong with it is told with the file and the record it stands in."""
    try:
        return build()
    except InputError as error:
        field = (error.where or "").rpartition(", ")[2]
        raise InputError(error.what, where=f"{where}, {field}", remedy=error.remedy) from error
