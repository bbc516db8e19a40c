"""Turning pydantic's findings into errors that name the place and the nearest valid key."""

from collections.abc import Callable, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from sphere_core.foundation.errors import InputError, nearest_name
from sphere_core.foundation.yaml_files import Location, YamlText, key_path

__all__ = ["as_input_error", "model_at"]


def _no_more(location: Location) -> Sequence[str]:
    return ()


def as_input_error(
    error: ValidationError,
    model: type[BaseModel],
    text: YamlText,
    *,
    more_keys: Callable[[Location], Sequence[str]] = _no_more,
) -> InputError:
    """Return the first finding as an InputError; unknown keys come before anything else.

    A mistyped key also leaves the right key missing, and the typo is the cause. `more_keys` are valid keys at a
    location that are not fields of the model.
    """
    findings = sorted(error.errors(), key=lambda finding: finding["type"] != "extra_forbidden")
    finding = findings[0]
    location = tuple(finding["loc"])
    kind, message = finding["type"], finding["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        known = sorted([*_keys_at(model, location[:-1]), *more_keys(location[:-1])])
        near = nearest_name(str(location[-1]), known)
        hint = f"did you mean '{near}'? " if near else ""
        return InputError(
            f"unknown key '{location[-1]}'", where=text.where(location), remedy=f"{hint}valid: {', '.join(known)}"
        )
    if kind == "missing":
        what = f"the key '{key_path(location)}' is missing"
        return InputError(what, where=text.where(location), remedy=_description(model, location))
    remedy = _description(model, location) or "correct it; the examples and the reference of sweep files show each key"
    return InputError(_lowered(message), where=text.where(location), remedy=remedy)


def model_at(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel] | None:
    """Return the model that holds the fields at a location below `model`, or None if there are none."""
    current: type[BaseModel] | None = model
    for part in location:
        if current is None:
            return None
        if isinstance(part, str):
            field = current.model_fields.get(part)
            current = _model_in(field.annotation) if field else None
    return current


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model inside `M`, `M | None` or `tuple[M, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        found = _model_in(inner)
        if found is not None:
            return found
    return None


def _keys_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    found = model_at(model, location)
    return sorted(found.model_fields) if found else []


def _description(model: type[BaseModel], location: tuple[int | str, ...]) -> str | None:
    """Return what the sweep file's reference says about the key at a location."""
    names = [index for index, part in enumerate(location) if isinstance(part, str)]
    for index in reversed(names):
        holder = model_at(model, location[:index])
        field = holder.model_fields.get(str(location[index])) if holder else None
        if field is not None and field.description:
            return f"{location[index]}: {field.description}"
    return None


def _lowered(message: str) -> str:
    return message[:1].lower() + message[1:]
