"""The settings that a row owns: typed, each with its default, its meaning and the source of the default."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from sphere_core.foundation.errors import InputError, unknown_name

__all__ = ["RowSettings", "read_settings", "setting", "settings_faults", "source_of"]

_SOURCE = "source"


class RowSettings(BaseModel):
    """Base class of a row's settings; unknown keys and numbers that are not finite are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


_Settings = TypeVar("_Settings", bound=BaseModel)


def setting(default: Any, *, description: str, source: str, **bounds: Any) -> Any:
    """Return a field of a row's settings: its default, what it means, and where the default comes from.

    `default` may be `...` for a setting that must be given. `bounds` are pydantic's: ge, gt, le, lt.
    """
    return Field(default, description=description, json_schema_extra={_SOURCE: source}, **bounds)


def read_settings(kind: type[_Settings], given: Mapping[str, Any], *, owner: str, where: str) -> _Settings:
    """Return a row's settings from what a user gives, defaults filled in.

    `owner` is the row's name. Raises InputError naming the key, with the nearest valid name or what the key means.
    """
    known = kind.model_fields
    for key in given:
        if key not in known:
            raise unknown_name(f"setting of '{owner}'", str(key), known, where=where)
    try:
        return kind.model_validate(dict(given))
    except ValidationError as error:
        fault = error.errors()[0]
        key = str(fault["loc"][0]) if fault["loc"] else ""
        meaning = known[key].description if key in known else None
        message = fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
        raise InputError(
            f"setting '{key}' of '{owner}': {message[:1].lower()}{message[1:]}",
            where=where,
            remedy=f"{key}: {meaning}" if meaning else None,
        ) from error


def source_of(field: FieldInfo) -> str:
    """Return the source that a field of a row's settings names, or an empty text."""
    extra = field.json_schema_extra
    return str(extra.get(_SOURCE, "")) if isinstance(extra, dict) else ""


def settings_faults(kind: type[BaseModel], *, exempt: tuple[str, ...] = ()) -> list[str]:
    """Return what is wrong with a row's settings: fields without a description or, if they have a default, a source."""
    faults = []
    for name, field in kind.model_fields.items():
        if name in exempt:
            continue
        if not field.description:
            faults.append(f"'{name}' has no description")
        elif not field.is_required() and not source_of(field):
            faults.append(f"'{name}' has a default without a source")
    return faults
