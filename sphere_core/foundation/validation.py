"""Values that a user gave, as one of the project's models; what does not fit becomes an InputError."""

import re
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from sphere_core.foundation.errors import InputError, nearest_name, unknown_name

__all__ = ["BOOLEAN", "BOOLEAN_REMEDY", "misplaced_booleans", "validated"]

BOOLEAN = "true and false do not fit here"
BOOLEAN_REMEDY = "give a number, or a text in quotes: YAML takes yes, no, on and off for true and false"

_Model = TypeVar("_Model", bound=BaseModel)


def validated(model: type[_Model], values: Mapping[str, object], *, where: str) -> _Model:
    """Return `values` as an instance of `model`; raises InputError for the first value that does not fit.

    An unknown key is reported before anything else, with the nearest valid one: a mistyped key also leaves the right
    key missing, and the typo is the cause.
    """
    odd = next(misplaced_booleans(model, values), None)
    if odd is not None:
        place = ".".join(str(part) for part in odd)
        raise InputError(BOOLEAN, where=f"{where}, {place}", remedy=BOOLEAN_REMEDY)
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        findings = sorted(error.errors(), key=lambda finding: finding["type"] != "extra_forbidden")
        location = ".".join(str(part) for part in findings[0]["loc"])
        place = f"{where}, {location}" if location else where
        if findings[0]["type"] == "extra_forbidden" and len(findings[0]["loc"]) == 1:
            raise unknown_name("key", location, model.model_fields, where=where) from error
        message = findings[0]["msg"].removeprefix("Value error, ")
        field = model.model_fields.get(str(findings[0]["loc"][0])) if findings[0]["loc"] else None
        description = field.description if field is not None else None
        remedy = f"{_nearest_choice(findings[0])}{description or ''}" or None
        raise InputError(message[:1].lower() + message[1:], where=place, remedy=remedy) from error


def _nearest_choice(finding: Any) -> str:
    """Return a hint at the choice that a value of no choice looks like, or nothing."""
    if finding["type"] != "literal_error" or not isinstance(finding["input"], str):
        return ""
    near = nearest_name(finding["input"], re.findall("'([^']*)'", finding["ctx"]["expected"]))
    return f"did you mean '{near}'? " if near else ""


def misplaced_booleans(
    annotation: Any, value: object, location: tuple[str | int, ...] = ()
) -> Iterator[tuple[str | int, ...]]:
    """Yield where a value holds true or false although its type has no place for them.

    Python takes them for 1 and 0, and so would every field that holds a number. `annotation` is a model or the type of
    a field; what has no type (`Any`) is passed over.
    """
    kinds = list(_members(annotation))
    if isinstance(value, bool):
        if not any(kind in (bool, Any, object) or value in _literals(kind) for kind in kinds):
            yield location
    elif isinstance(value, Mapping):
        for kind in kinds:
            fields = kind.model_fields if isinstance(kind, type) and issubclass(kind, BaseModel) else {}
            for name, item in value.items():
                if name in fields:
                    yield from misplaced_booleans(fields[name].annotation, item, (*location, name))
    elif isinstance(value, list):
        items = [part for kind in kinds if get_origin(kind) in (tuple, list) for part in get_args(kind)]
        inner = [part for part in items if part is not Ellipsis]
        for place, item in enumerate(value) if inner else ():
            yield from misplaced_booleans(inner[0], item, (*location, place))


def _members(annotation: Any) -> Iterator[Any]:
    """Yield the types of a union, without what annotates them."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _members(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for part in get_args(annotation):
            yield from _members(part)
    else:
        yield annotation


def _literals(kind: Any) -> tuple[object, ...]:
    return tuple(part for part in get_args(kind) if isinstance(part, bool)) if get_origin(kind) is Literal else ()
