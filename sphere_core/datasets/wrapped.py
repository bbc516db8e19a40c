"""A JSON file that is one object: the records under a name, records by their id, or one record alone."""

from collections.abc import Mapping, Sequence
from typing import TypeGuard

from sphere_core.foundation.errors import InputError

__all__ = ["unwrapped"]

# Under which names files hold their list of records.
_LIST_NAMES = frozenset(
    [
        *("data", "dataset", "records", "examples", "instances", "rows", "items", "edits", "facts", "requests"),
        *("samples", "train", "test", "validation", "dev"),
    ]
)
# Fields of published schemas whose value is an object: an object that has one is a record by itself.
_OBJECT_FIELDS = frozenset({"requested_rewrite", "edit", "portability", "locality"})


def unwrapped(value: Mapping[str, object], *, where: str) -> Sequence[object]:
    """Return the records that a lone object holds, or the object itself where it is a record.

    Read are `{"data": [...]}` (with one such list, whatever is beside it) and `{"17": {...}, ...}`, where the key
    becomes the `case_id` of a record that has none, also below a name such as `data`. Raises InputError if several
    lists could be meant, and for a table of columns.
    """
    lists = [name for name, held in value.items() if name.lower() in _LIST_NAMES and isinstance(held, list)]
    lists = [name for name in lists if name not in ("edits", "facts") or _holds_objects(value[name])]
    if len(lists) > 1:
        raise InputError(
            f"the file holds several lists of records: {', '.join(lists)}",
            where=where,
            remedy="put one of them into a file of its own, as a list",
        )
    if lists:
        held = value[lists[0]]
        if not _holds_objects(held):
            raise InputError(
                f"the file is one object with the key '{lists[0]}', and that is not a list of objects",
                where=where,
                remedy='give a list of records; from pandas: to_json(..., orient="records")',
            )
        return _without_row_numbers(held, value, where)  # type: ignore[arg-type]  # a list of objects, as just seen
    if not value or _OBJECT_FIELDS & value.keys():
        return [value] if value else []
    keyed = [held for name, held in value.items() if name.lower() in _LIST_NAMES and _is_keyed(held)]
    if len(keyed) == 1:
        return unwrapped(keyed[0], where=where)
    if all(isinstance(held, Mapping) for held in value.values()):
        _refuse_columns(value, where)
        return [{"case_id": name, **held} for name, held in value.items() if isinstance(held, Mapping)]
    if len(value) > 1 and all(isinstance(held, list) for held in value.values()):
        _refuse_columns(value, where)
    return [value]


def _holds_objects(held: object) -> bool:
    return isinstance(held, list) and bool(held) and all(isinstance(item, Mapping) for item in held)


def _without_row_numbers(
    held: Sequence[Mapping[str, object]], page: Mapping[str, object], where: str
) -> Sequence[object]:
    """Return the records of a list; in an answer of the hub's service for rows they are one level deeper.

    Raises InputError for such an answer that holds a part of the data set only, or cells that are cut off.
    """
    if not all("row_idx" in entry and isinstance(entry.get("row"), Mapping) for entry in held):
        return held
    total, cut = page.get("num_rows_total"), any(entry.get("truncated_cells") for entry in held)
    if cut or (isinstance(total, int) and total > len(held)):
        part = "cells that are cut off" if cut else f"{len(held)} of {total} rows"
        raise InputError(
            f"the file is an answer of the hub's service for rows, and holds {part}",
            where=where,
            remedy="read the data set itself: give its id as 'hub'; for these rows alone, save a list of the 'row's",
        )
    return [entry["row"] for entry in held]


def _is_keyed(held: object) -> TypeGuard[Mapping[str, object]]:
    """Return whether a value is an object of objects whose keys are numbers: records by their id."""
    if not isinstance(held, Mapping) or not held:
        return False
    return all(name.isdecimal() and isinstance(item, Mapping) for name, item in held.items())


def _refuse_columns(value: Mapping[str, object], where: str) -> None:
    """Raise InputError for a table by columns: objects by row number, or lists of equal length."""
    first = next(iter(value.values()))
    by_row = (
        isinstance(first, Mapping) and not next(iter(value)).isdecimal() and all(name.isdecimal() for name in first)
    )
    equal = isinstance(first, list) and all(
        isinstance(held, list) and len(held) == len(first) for held in value.values()
    )
    if by_row or equal:
        raise InputError(
            f"the file is a table by columns ({', '.join(list(value)[:4])} ...), not a list of records",
            where=where,
            remedy='write records; from pandas: to_json(..., orient="records")',
        )
