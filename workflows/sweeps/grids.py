"""`grid:` in an entry of models, streams or methods: the entry once for every combination of the values below it.

    methods:
      - name: alphaedit+sphere
        grid: {hyperparameters: {strength: [.25, .5], energy_ratio: [.25, .5]}}

is four methods, `alphaedit+sphere strength=0.25 energy_ratio=0.25` and so on, the last axis varying fastest.
"""

import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.yaml_files import Location, YamlText, key_path

__all__ = ["ENTRIES", "GRID", "SweepText", "axis_names", "expanded"]

GRID = "grid"
# Where entries are, with the key of an entry's name in tables, what it is called without one, and the keys of axes that
# tables show beside the name anyway.
ENTRIES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "models": ("name", "source", ()),
    "streams": ("label", "dataset", ("edits", "order", "conflicts", "paraphrases")),
    "methods": ("label", "name", ()),
}
# Far beyond any sweep, and far below what takes minutes to check.
_MOST_ENTRIES = 10_000


@dataclass(frozen=True)
class SweepText(YamlText):
    """A sweep file with its grids expanded and with values of the command line.

    Places still name what a user wrote: `origins` has the location in the file of what was moved, `given` the option
    that gave a value, `axes` the values of an expanded entry by the names of its axes.
    """

    origins: Mapping[Location, Location] = field(default_factory=dict)
    given: Mapping[Location, str] = field(default_factory=dict)
    axes: Mapping[Location, Mapping[str, Any]] = field(default_factory=dict)

    def where(self, location: Location) -> str:
        """Return "file, line n, key a.b[0].c (axis=value)" for a location, or the option that gave its value."""
        written = _origin(self.origins, location)
        entry = " ".join(_text_of(axis, value) for axis, value in self.axes.get(location[:2], {}).items())
        for length in range(len(written), 0, -1):
            if written[:length] in self.given:
                place = f"option {self.given[written[:length]]}"
                place += f", key {key_path(written)}" if length < len(written) else ""
                break
        else:
            place = super().where(written)
            inside = [option for below, option in self.given.items() if below[: len(written)] == written and written]
            if inside:
                place += f", with {' '.join(inside)}"
        return f"{place} ({entry})" if entry else place


def expanded(text: YamlText, *, given: Mapping[Location, str] | None = None) -> SweepText:
    """Return a sweep file's text with an entry for every combination of its grids.

    `given` names the option that gave the value at a location. Raises InputError for a grid that is not a mapping of
    lists, a key that the entry has as well, and more combinations than a sweep can hold.
    """
    data, origins, axes = dict(text.data), dict[Location, Location](), dict[Location, Mapping[str, Any]]()
    before = SweepText(text.source, text.data, text.lines, given=given or {})
    for part in ENTRIES:
        entries = data.get(part)
        if not isinstance(entries, list) or not any(isinstance(entry, dict) and GRID in entry for entry in entries):
            continue
        data[part] = []
        for index, entry in enumerate(entries):
            place: Location = (part, index)
            for one, moved, values in _combinations(entry, place, before):
                new = (part, len(data[part]))
                origins |= {(*new, *inner): origin for inner, origin in moved.items()}
                if values:
                    axes[new] = values
                data[part].append(one)
    return SweepText(text.source, data, text.lines, origins, given or {}, axes)


def axis_names(*entries: Mapping[str, Any]) -> dict[str, Any]:
    """Return the axes of several entries as one mapping.

    An axis that two of them have is prefixed by its number from the second on, as in `edits_2`.
    """
    found: dict[str, Any] = {}
    for place, axes in enumerate(entries, 1):
        found |= {f"{name}_{place}" if name in found else name: value for name, value in axes.items()}
    return found


def _combinations(
    entry: Any, place: Location, text: SweepText
) -> Iterator[tuple[Any, dict[Location, Location], dict[str, Any]]]:
    """Yield an entry for each combination, the origin of each moved location in it, and its axes."""
    if not (isinstance(entry, dict) and GRID in entry):
        yield entry, {(): place}, {}
        return
    part = str(place[0])
    own = {key: value for key, value in entry.items() if key != GRID}
    paths = dict(_axes(entry[GRID], (), (*place, GRID), text))
    for path in paths:
        _refuse_clash(own, path, part, text.where((*place, GRID, *path)))
    count = math.prod(len(values) for values in paths.values())
    if count > _MOST_ENTRIES:
        raise InputError(
            f"the grid has {count:,} combinations; a sweep file holds {_MOST_ENTRIES:,} at most",
            where=text.where((*place, GRID)),
            remedy="give fewer values, or several sweeps",
        )
    names = _short_names(paths)
    for chosen in itertools.product(*(range(len(values)) for values in paths.values())):
        one: dict[str, Any] = dict(own)
        moved: dict[Location, Location] = {(): place}
        for (path, values), number in zip(paths.items(), chosen, strict=True):
            one = _with(one, path, values[number])
            moved |= {path[:n]: (*place, GRID, *path[:n]) for n in range(1, len(path)) if not _has(own, path[:n])}
            moved[path] = (*place, GRID, *path, number)
        values_by_name = {names[path]: paths[path][n] for path, n in zip(paths, chosen, strict=True)}
        yield _named(one, part, paths, values_by_name, names), moved, values_by_name


def _axes(grid: Any, path: Location, place: Location, text: SweepText) -> Iterator[tuple[Location, list[Any]]]:
    """Yield the path of each axis inside an entry, with its values."""
    if isinstance(grid, dict) and grid:
        for name, inner in grid.items():
            yield from _axes(inner, (*path, str(name)), (*place, str(name)), text)
    elif isinstance(grid, list) and grid and path:
        yield path, grid
    else:
        what = f"the axis '{key_path(path)}' has no list of values" if path else "the grid has no axis"
        remedy = "write a list, such as {hyperparameters: {strength: [0.25, 0.5]}}"
        raise InputError(what, where=text.where(place), remedy=remedy)


def _refuse_clash(own: Mapping[str, Any], path: Location, part: str, where: str) -> None:
    if path in (("name",), ("label",), (ENTRIES[part][1],)):
        remedy = f"write an entry of `{part}` for each"
        raise InputError(f"'{path[0]}' names the entry and cannot be an axis", where=where, remedy=remedy)
    if _has(own, path):
        remedy = "give it in one of the two places"
        raise InputError(f"'{key_path(path)}' is set in the entry and in its grid", where=where, remedy=remedy)


def _has(mapping: Any, path: Location) -> bool:
    for name in path:
        if not isinstance(mapping, dict) or name not in mapping:
            return False
        mapping = mapping[name]
    return True


def _with(mapping: Mapping[str, Any], path: Location, value: Any) -> dict[str, Any]:
    """Return a mapping with a value at a path; what is on the way there is copied, not changed."""
    first, rest = str(path[0]), path[1:]
    below = mapping.get(first)
    inner = value if not rest else _with(below if isinstance(below, dict) else {}, rest, value)
    return {**mapping, first: inner}


def _short_names(paths: Mapping[Location, list[Any]]) -> dict[Location, str]:
    """Return an axis's last key as its name, or all of its path where two axes end alike."""
    last = Counter(path[-1] for path in paths)
    return {path: str(path[-1]) if last[path[-1]] == 1 else key_path(path) for path in paths}


def _named(
    entry: dict[str, Any],
    part: str,
    paths: Mapping[Location, list[Any]],
    values: Mapping[str, Any],
    names: Mapping[Location, str],
) -> dict[str, Any]:
    """Return an entry with a name of its own: `{axis}` in its label filled in, other axes as `axis=value` behind it."""
    key, unlabelled, shown = ENTRIES[part]
    label = str(entry[key]) if entry.get(key) is not None else None
    behind = [names[path] for path in paths if path[0] not in shown]
    for name, value in values.items():
        if label is not None and f"{{{name}}}" in label:
            label = label.replace(f"{{{name}}}", _value_text(value))
            behind = [other for other in behind if other != name]
    if label is None and not behind:
        return entry
    base = label or str(entry.get(unlabelled, "")).rstrip("/").rsplit("/", 1)[-1]
    return {**entry, key: " ".join([base, *(_text_of(name, values[name]) for name in behind)])}


def _text_of(axis: str, value: Any) -> str:
    return f"{axis}={_value_text(value)}"


def _value_text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _origin(origins: Mapping[Location, Location], location: Location) -> Location:
    for length in range(len(location), 0, -1):
        if location[:length] in origins:
            return (*origins[location[:length]], *location[length:])
    return location
