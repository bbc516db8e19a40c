"""Files that hold an order: a list of case ids, or what `sphere order` writes, with where the order comes from."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sphere_core.datasets.records import Record
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.json_files import read_text
from sphere_core.requests import requests_digest

__all__ = ["ORDER_FORMAT", "OrderFile", "in_given_order", "records_digest"]

ORDER_FORMAT = "sphere-order-1"


class OrderFile(BaseModel):
    """An order with its provenance: which data set was ordered, by what, and the case ids in edit order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str = ORDER_FORMAT
    dataset: str = Field(description="How tables call the data set")
    dataset_digest: str = Field(description="sha256 of all its requests in file order")
    order: str = Field(description="clustered or dispersed")
    similarity: dict[str, Any] = Field(description="What was compared: model, layer, settings")
    seed: int
    statistics: dict[str, float] = Field(default_factory=dict, description="What the order is like")
    cases: tuple[str, ...] = Field(min_length=1, description="Case ids in edit order")


def records_digest(records: Sequence[Record]) -> str:
    """Return the sha256 of all requests of a data set in file order."""
    return requests_digest([request for record in records for request in record.requests])


def in_given_order(records: Sequence[Record], path: Path, *, source: str) -> list[Record]:
    """Return the records that a file names, in its order.

    The file holds case ids (a JSON list, or one per line), or the object {"cases": [...]} or {"indices": [...]}
    (places in the data set, from 0), or is one that `sphere order` wrote; that must have been written for this
    data set. Raises InputError for a name that is unknown, given twice or not unique in the data set.
    """
    places = {}
    names, by_index = _read(path, records, source)
    for place, record in enumerate(records):
        name = str(place) if by_index else record.case_id
        if name in places and name in names:
            raise InputError(
                f"two records of the data set have the case id '{name}'",
                where=source,
                remedy=f'name records by their place instead: {{"indices": [...]}} in {path.name}',
            )
        places[name] = place
    kind = "index" if by_index else "case id"
    for line, name in enumerate(names):
        if name not in places:
            raise InputError(
                f"the {kind} '{name}' is not in the data set",
                where=f"{path}, entry {line}",
                remedy=f"{source} has {len(records)} records; write the order for this data set",
            )
    if len(set(names)) < len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise InputError(f"the {kind} '{twice}' is given twice", where=str(path), remedy="name each record once")
    return [records[places[name]] for name in names]


def _read(path: Path, records: Sequence[Record], source: str) -> tuple[list[str], bool]:
    """Return what the file names, and whether these are places rather than case ids."""
    text = read_text(path, what="order file")
    if not text.lstrip().startswith(("[", "{")):
        return _names([line for line in text.splitlines() if line.strip()], path, "one per line"), False
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        place = f"{path}, line {error.lineno}, column {error.colno}"
        raise InputError(f"not valid JSON: {error.msg}", where=place, remedy="write a list of case ids") from error
    if isinstance(value, list):
        return _names(value, path, "a list"), False
    if "format" in value:
        return list(_checked(value, records, path, source).cases), False
    for key in ("cases", "indices"):
        if set(value) == {key}:
            return _names(value[key], path, f"the list '{key}'"), key == "indices"
    raise InputError(
        "the file does not say which records come in which order",
        where=str(path),
        remedy='write a list of case ids, {"cases": [...]} or {"indices": [...]}, or use \'sphere order\'',
    )


def _names(value: object, path: Path, what: str) -> list[str]:
    if not isinstance(value, list) or not value or not all(isinstance(name, str | int) for name in value):
        raise InputError(
            f"{what} of names is expected", where=str(path), remedy="write case ids, as texts or whole numbers"
        )
    return [str(name).strip() for name in value]


def _checked(value: dict[str, Any], records: Sequence[Record], path: Path, source: str) -> OrderFile:
    try:
        given = OrderFile.model_validate(value)
    except ValidationError as error:
        fault = error.errors()[0]
        field = ".".join(str(part) for part in fault["loc"])
        raise InputError(
            f"not an order file: {fault['msg']}", where=f"{path}, field {field}", remedy="write it with 'sphere order'"
        ) from error
    if given.format != ORDER_FORMAT or given.dataset_digest != records_digest(records):
        raise InputError(
            f"the order was written for another data set ('{given.dataset}', {given.dataset_digest[:12]})",
            where=f"{path}, field dataset_digest",
            remedy=f"run 'sphere order' on {source}, or take the file it was written for",
        )
    return given
