"""Reading YAML so that every fault names its file, its line and its key."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.yaml_text import parse_yaml

__all__ = ["YamlText", "key_path", "read_yaml"]

Location = tuple[str | int, ...]


@dataclass(frozen=True)
class YamlText:
    """What a YAML file holds, and the line of every key in it (1-based), by location."""

    source: str
    data: Any
    lines: Mapping[Location, int]

    def where(self, location: Location) -> str:
        """Return "file, line n, key a.b[0].c" for a location; the line is that of the nearest known parent."""
        line = None
        for length in range(len(location), 0, -1):
            line = self.lines.get(location[:length])
            if line is not None:
                break
        parts = [self.source]
        if line is not None:
            parts.append(f"line {line}")
        if location:
            parts.append(f"key {key_path(location)}")
        return ", ".join(parts)


def key_path(location: Sequence[str | int]) -> str:
    """Return a location as text: `("streams", 0, "edits")` is `streams[0].edits`."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else str(part)
    return text


def read_yaml(path: Path) -> YamlText:
    """Read a YAML file safely.

    Raises InputError for a missing file, bad syntax, and a key given twice (YAML itself would
    silently keep the last).
    """
    if not path.is_file():
        raise InputError("sweep file not found", where=str(path), remedy="check the path")
    text = path.read_text(encoding="utf-8")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = parse_yaml(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or str(error)
        raise InputError(f"not valid YAML: {problem}", where=place, remedy="correct the syntax there") from error
    lines: dict[Location, int] = {}
    if node is not None:
        _collect_lines(node, (), lines, str(path))
    return YamlText(str(path), data, lines)


def _collect_lines(node: yaml.Node, location: Location, lines: dict[Location, int], source: str) -> None:
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*location, index)] = item.start_mark.line + 1
            _collect_lines(item, (*location, index), lines, source)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            place = (*location, str(key.value))
            if place in lines:
                raise InputError(
                    f"the key '{key.value}' is given twice",
                    where=f"{source}, lines {lines[place]} and {key.start_mark.line + 1}",
                    remedy="keep one of them",
                )
            lines[place] = key.start_mark.line + 1
            _collect_lines(value, place, lines, source)
