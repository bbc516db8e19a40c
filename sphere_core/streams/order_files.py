"""Files that hold an order: a list of case ids, or what `sphere order` writes, with where the order comes from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sphere_core.datasets.records import Record
from sphere_core.foundation.errors import InputError, unknown_name
from sphere_core.foundation.json_files import parse_json
from sphere_core.foundation.user_files import DATA_BYTES, read_text
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


def in_given_order(records: Sequence[Record], path: Path, *, source: str, sample: str | None = None) -> list[Record]:
    """Return the records that a file names, in its order.

    The file holds case ids (a JSON list, or one per line, with or without a first line `case_id`), or the object
    {"cases": [...]} or {"indices": [...]} (places in the data set, from 0), or is one that `sphere order` wrote; that
    must have been written for this very data set. It may also hold several orders of places by name, {"0": [...],
    "1": [...]}; `sample` names the one that is meant. Raises InputError for a name that is unknown, given twice or not
    unique in the data set.
    """
    places = {}
    names, by_index = _read(path, records, source, sample)
    asked = set(names)
    for place, record in enumerate(records):
        name = str(place) if by_index else record.case_id
        if name in places and name in asked:
            raise InputError(
                f"two records of the data set have the case id '{name}'",
                where=source,
                remedy=f'name records by their place instead: {{"indices": [...]}} in {path.name}',
            )
        places[name] = place
    kind = "index" if by_index else "case id"
    seen = set()
    for line, name in enumerate(names):
        if name not in places:
            raise InputError(
                f"the {kind} '{name[:80]}' is not in the data set",
                where=f"{path}, entry {line}",
                remedy=f"{source} has {len(records)} records; write the order for this data set",
            )
        if name in seen:
            raise InputError(
                f"the {kind} '{name}' is given twice", where=f"{path}, entry {line}", remedy="name each record once"
            )
        seen.add(name)
    return [records[places[name]] for name in names]


def _read(path: Path, records: Sequence[Record], source: str, sample: str | None) -> tuple[list[str], bool]:
    """Return what the file names, and whether these are places rather than case ids."""
    text = read_text(path, what="order file", at_most=DATA_BYTES)
    if not text.lstrip().startswith(("[", "{")):
        _no_sample(sample, path)
        lines = [line for line in text.splitlines() if line.strip()]
        return _names(lines[1:] if lines[:1] == ["case_id"] else lines, path, "one per line"), False
    try:
        value = parse_json(text, where=str(path))
    except InputError as error:
        raise error.replaced(remedy="write a JSON list of case ids") from error
    if isinstance(value, dict) and "format" not in value and not {"cases", "indices"} & value.keys():
        return _sample(value, sample, path), True
    _no_sample(sample, path)
    if isinstance(value, list):
        return _names(value, path, "a list"), False
    if "format" in value:
        return list(_checked(value, records, path, source).cases), False
    for key in ("cases", "indices"):
        if set(value) == {key}:
            return _names(value[key], path, f"the list '{key}'"), key == "indices"
    raise _no_order(path)


def _sample(value: dict[str, Any], sample: str | None, path: Path) -> list[str]:
    """Return one of several orders by name."""
    if not value or not all(isinstance(order, list) for order in value.values()):
        raise _no_order(path)
    if sample is None and len(value) == 1:
        raise _no_order(path)
    if sample is None:
        raise InputError(
            f"the file holds {len(value)} orders: {', '.join(list(value)[:12])}",
            where=str(path),
            remedy=f"name one: {{given: {path.name}, sample: {next(iter(value))}}}, or `sample: seed` for the seed's",
        )
    if sample not in value:
        raise unknown_name("sample", sample, value, where=str(path))
    return _names(value[sample], path, f"the list '{sample}'")


def _no_sample(sample: str | None, path: Path) -> None:
    if sample is not None:
        raise InputError("the file holds one order, and no samples", where=str(path), remedy="leave 'sample' out")


def _no_order(path: Path) -> InputError:
    return InputError(
        "the file does not say which records come in which order",
        where=str(path),
        remedy='write a list of case ids, {"cases": [...]} or {"indices": [...]}, or use \'sphere order\'',
    )


def _names(value: object, path: Path, what: str) -> list[str]:
    names = value if isinstance(value, list) else []
    if not names or not all(isinstance(name, str | int) and not isinstance(name, bool) for name in names):
        raise InputError(
            f"{what} of case ids is expected", where=str(path), remedy="write case ids, as texts or whole numbers"
        )
    return [str(name).strip() for name in names]


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
