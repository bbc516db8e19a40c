"""Building hyperparameters from plain values: all faults at once, each with its key."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from sphere_core.foundation.errors import InputError, nearest_name
from sphere_core.hyperparameters.fields import Hyperparameters
from sphere_core.hyperparameters.owners import fields_of

__all__ = ["Fault", "build_hyperparameters", "refuse"]

# What is wrong with a key, and how to correct it.
Fault = tuple[str, str, str]
# One screen holds no more than this.
_SHOWN = 8


def build_hyperparameters(
    values: Mapping[str, Any], *, where: str, rows: Collection[str] = (), faults: Collection[Fault] = ()
) -> Hyperparameters:
    """Validate hyperparameters; raises InputError with every key that is wrong.

    `rows` are the editor and the regularizers of the method: for an unknown key the nearest name among theirs is
    offered, never that of another method. `faults` are what was found before, and are raised with the others.
    """
    found = list(faults)
    for name in values:
        if name not in Hyperparameters.model_fields:
            found.append((str(name), "unknown hyperparameter", _hint(str(name), rows)))
    known = {name: value for name, value in values.items() if name in Hyperparameters.model_fields}
    if "layers" not in known and isinstance(known.get("sites"), Mapping):
        lists = [layers for layers in known["sites"].values() if isinstance(layers, list | tuple)]
        known["layers"] = sorted({layer for layers in lists for layer in layers})
    built = None
    try:
        built = Hyperparameters(**known)
    except ValidationError as error:
        found += [(_key(item["loc"]), _message(item), "") for item in _distinct(error)]
    if built is not None and list(built.layers) != sorted(set(built.layers)):
        found.append(("layers", "must ascend without repetition", f"write {sorted(set(built.layers))}"))
    if built is not None and built.sites is not None:
        found += _unlike(built.layers, built.sites)
    if found or built is None:
        raise refuse(found, where=where, rows=rows)
    return built


def _unlike(layers: Sequence[int], sites: Mapping[str, Sequence[int]]) -> Iterator[Fault]:
    """Yield what is wrong with `sites`: layers out of order, or others than those of `layers`."""
    for name, chosen in sites.items():
        if list(chosen) != sorted(set(chosen)):
            yield f"sites.{name}", "must ascend without repetition", f"write {sorted(set(chosen))}"
    named = sorted({layer for chosen in sites.values() for layer in chosen})
    if named != list(layers):
        yield "layers", f"'sites' names the layers {named}, 'layers' {list(layers)}", "leave one of them out"


def refuse(faults: Collection[Fault], *, where: str, rows: Collection[str] = ()) -> InputError:
    """Return the error for the faults of a set of hyperparameters: one, or all of them as a list."""
    first, *others = faults
    if not others:
        name, message, remedy = first
        what = f"{message} '{name}'" if message.startswith("unknown") else f"hyperparameter '{name}': {message}"
        return InputError(what, where=f"{where}, key {name}", remedy=remedy or _meaning(name, rows))
    shown = [f"  {name}: {message}" + (f" ({remedy})" if remedy else "") for name, message, remedy in faults]
    more = [f"  and {len(shown) - _SHOWN} more"] if len(shown) > _SHOWN else []
    what = "\n".join([f"{len(shown)} hyperparameters are wrong:", *shown[:_SHOWN], *more])
    return InputError(what, where=where, remedy="correct these keys, or leave them out")


def _hint(name: str, rows: Collection[str]) -> str:
    near = nearest_name(name, fields_of(rows))
    return f"did you mean '{near}'?" if near else ""


def _meaning(name: str, rows: Collection[str]) -> str:
    """Return what a hyperparameter is, or the names that are valid if it is none."""
    field = Hyperparameters.model_fields.get(name.split(".")[0])
    if field is not None and field.description:
        return f"{name}: {field.description}"
    return f"valid: {', '.join(sorted(fields_of(rows)))}"


def _key(location: tuple[int | str, ...]) -> str:
    types = ("function-", "literal[", "constrained")
    return ".".join(str(part) for part in location if not str(part).startswith(types))


def _message(item: Any) -> str:
    if item["type"] == "missing":
        return "is missing"
    given = item.get("input")
    written = str(given).lower() if isinstance(given, bool) else f"{given!r:.40}"
    shown = f", not {written}" if isinstance(given, int | float | str) else ""
    message = item["msg"].removeprefix("Value error, ").removeprefix("Input ").replace("valid tuple", "list")
    return f"{message[:1].lower()}{message[1:]}{shown}"


def _distinct(error: ValidationError) -> list[Any]:
    """Return one finding for each key; a value of several types has one for each of them."""
    by_key: dict[str, Any] = {}
    for item in error.errors():
        by_key.setdefault(str(item["loc"][0]) if item["loc"] else "", item)
    return list(by_key.values())
