"""`--set PATH=VALUE`: values of a sweep file from the command line."""

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sphere_core.foundation.errors import InputError, unknown_name
from sphere_core.foundation.model_errors import model_at
from sphere_core.foundation.yaml_files import Location, YamlText, key_path, parse_user_yaml
from workflows.sweeps.grids import ENTRIES, GRID
from workflows.sweeps.spec import SweepSpec, method_mapping, model_mapping

__all__ = ["Override", "overridden", "read_overrides", "set_hyperparameters"]

_STEP = re.compile(r"(?:^|\.)([^.\[\]=]+)|\[([^\[\]]+)\]")
_EXAMPLE = "write PATH=VALUE, such as methods[0].hyperparameters.strength=0.5"
_EVERY = "*"
# Entries that a sweep file may give as one word.
_SHORT_FORMS = {"models": model_mapping, "methods": method_mapping}


@dataclass(frozen=True)
class Override:
    """A value for a path of a sweep file: `methods[0].hyperparameters.strength`; `*` is every entry of a list."""

    path: str
    steps: tuple[str, ...]
    value: Any

    @property
    def option(self) -> str:
        """The option that gave it, for errors."""
        return f"--set {self.path}"


def read_overrides(texts: Sequence[str]) -> list[Override]:
    """Return overrides from texts `PATH=VALUE`, the value as YAML; raises InputError for what is not such a text."""
    return [_read(text) for text in texts]


def set_hyperparameters(texts: Sequence[str]) -> dict[str, Any]:
    """Return the hyperparameters that texts `NAME=VALUE` or `ROW.NAME=VALUE` (a plugin's) give, nested as in a sweep
    file."""
    found: dict[str, Any] = {}
    for one in read_overrides(texts):
        inner = found
        for name in one.steps[:-1]:
            inner = inner.setdefault(name, {})
            if not isinstance(inner, dict):
                raise InputError(f"'{name}' is given a value of its own before", where=one.option)
        inner[one.steps[-1]] = one.value
    return found


def overridden(text: YamlText, overrides: Sequence[Override]) -> tuple[YamlText, dict[Location, str]]:
    """Return a sweep file's text with values replaced, in the order given, and the option behind each location.

    Raises InputError for a path that a sweep file cannot have, with the nearest name.
    """
    data, given = copy.deepcopy(text.data), dict[Location, str]()
    for one in overrides:
        _put(data, one, (), one.steps, given)
    return YamlText(text.source, data, text.lines), given


def _read(text: str) -> Override:
    path, sign, value = text.partition("=")
    path = path.strip()
    steps, end = [], 0
    for found in _STEP.finditer(path):
        if found.start() != end:
            break
        steps.append(found[1] or found[2])
        end = found.end()
    if not sign or not steps or end != len(path):
        raise InputError(f"'{text}' sets nothing", where="--set", remedy=_EXAMPLE)
    return Override(path, tuple(steps), parse_user_yaml(value, where=f"--set {path}").data)


def _put(holder: Any, one: Override, location: Location, steps: tuple[str, ...], given: dict[Location, str]) -> None:
    """Set the value below a mapping or a list, at the location that `steps` lead to from here."""
    for key in _keys(holder, one, location, steps[0]):
        place = (*location, key)
        if len(steps) == 1:
            holder[key] = copy.deepcopy(one.value)
            for known in [inner for inner in given if inner[: len(place)] == place]:
                del given[known]
            given[place] = one.option
            continue
        inner = holder.get(key) if isinstance(holder, dict) else holder[key]
        if inner is None:
            inner = {}
        elif len(place) == 2 and place[0] in _SHORT_FORMS:
            inner = _SHORT_FORMS[str(place[0])](inner)
        if not isinstance(inner, (dict, list)):
            what = f"'{key_path(place)}' is {inner!r:.40}: there is nothing below it"
            raise InputError(what, where=one.option, remedy="set it as a whole")
        holder[key] = inner
        _put(inner, one, place, steps[1:], given)


def _keys(holder: Any, one: Override, location: Location, step: str) -> Sequence[str | int]:
    """Return the keys of a mapping or the places of a list that a step names."""
    if isinstance(holder, list):
        return _places(holder, one, location, step)
    model = model_at(SweepSpec, location)
    if model is not None and model.model_config.get("extra") != "allow":
        known = [*model.model_fields, *([GRID] if len(location) == 2 and location[0] in ENTRIES else [])]
        if step not in known:
            raise unknown_name("key", step, known, where=one.option)
    return [step]


def _places(entries: list[Any], one: Override, location: Location, step: str) -> Sequence[int]:
    if step == _EVERY:
        return range(len(entries))
    if step.isdecimal():
        if int(step) < len(entries):
            return [int(step)]
        what = f"{key_path(location)} has {len(entries)} entries, there is no [{step}]"
        raise InputError(what, where=one.option, remedy="count from 0, or name the entry")
    names = [_names_of(entry) for entry in entries]
    places = [place for place, known in enumerate(names) if step in known]
    if not places:
        known = sorted({name for own in names for name in own})
        raise unknown_name(f"entry of {key_path(location)}", step, [*known, _EVERY], where=one.option)
    return places


def _names_of(entry: Any) -> list[str]:
    """Return how an entry may be named: by its label, its name, its source or its data set."""
    if isinstance(entry, Mapping):
        return [str(entry[key]) for key in ("label", "name", "source", "dataset") if key in entry]
    return [str(entry)]
