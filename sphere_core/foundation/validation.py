"""Values that a user gave, as one of the project's models; what does not fit becomes an InputError."""

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from sphere_core.foundation.errors import InputError, unknown_name

__all__ = ["validated"]

_Model = TypeVar("_Model", bound=BaseModel)


def validated(model: type[_Model], values: Mapping[str, object], *, where: str) -> _Model:
    """Return `values` as an instance of `model`; raises InputError for the first value that does not fit.

    An unknown key is reported before anything else, with the nearest valid one: a mistyped key also leaves the right
    key missing, and the typo is the cause.
    """
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
        raise InputError(message[:1].lower() + message[1:], where=place, remedy=description) from error
