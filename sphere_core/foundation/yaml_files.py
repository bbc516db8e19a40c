"""YAML that a user gives: every fault names its file, its line and its key, and no file takes long to be refused."""

import datetime
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.user_files import read_text
from sphere_core.foundation.yaml_text import YAML_LOADER

__all__ = ["Location", "YamlText", "key_path", "parse_user_yaml", "read_yaml", "require_bounded"]

Location = tuple[str | int, ...]

# Far above any sweep, far below what takes a minute: bytes, nested collections, values with aliases expanded.
_BYTES, _DEPTH, _NODES = 8 << 20, 64, 500_000
_INTEGERS = 1 << 63
# YAML 1.1 reads 1:30 as 90 (base 60) and 010 as 8 (base 8); a setting never means that.
_OTHER_BASE = re.compile(r"[-+]?(?:[0-9_]+:[0-9_:.]+|0[0-9_]+)")
_NUMBER_TAGS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


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
            shown = part if len(part) <= 80 else f"{part[:80]}..."
            text += f".{shown}" if text else shown
    return text


def read_yaml(path: Path, *, what: str = "sweep file") -> YamlText:
    """Read a YAML file safely; raises InputError if it is missing, too large, or as `parse_user_yaml` does."""
    return parse_user_yaml(read_text(path, what=what, at_most=_BYTES), where=str(path))


def parse_user_yaml(text: str, *, where: str) -> YamlText:
    """Parse one YAML document safely.

    Raises InputError for bad syntax, a key given twice (YAML itself would silently keep the last), nesting or aliases
    beyond the limits, and a value that no setting can have: a number that is not finite, does not fit 64 bits or is in
    base 60 or 8, a text with control characters, a date.
    """
    loader = YAML_LOADER(text)
    try:
        node = require_bounded(text, loader, where=where)
        lines: dict[Location, int] = {} if node is None else dict(_lines(node, (), where))
        data = loader.construct_document(node) if node is not None else None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{where}, line {mark.line + 1}, column {mark.column + 1}" if mark else where
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise InputError(f"not valid YAML: {problem}", where=place, remedy="correct the syntax there") from error
    except (ValueError, OverflowError) as error:
        # A date such as 2024-99-99, or an integer of more digits than Python converts.
        raise InputError(f"not valid YAML: {error}", where=where, remedy="put such a value in quotes") from error
    finally:
        loader.dispose()
    found = YamlText(where, data, lines)
    if node is not None:
        _refuse_bases(found, node, ())
    _refuse_values(found, data, ())
    return found


def require_bounded(text: str, loader: Any, *, where: str) -> Any:
    """Return the one node of a text that `loader` was made from; None for an empty text.

    Raises InputError for nesting or aliases beyond the limits, before anything recurses over them, and yaml.YAMLError.
    """
    _refuse_depth(text, where)
    node = loader.get_single_node()
    if node is not None:
        _refuse_size(node, where)
    return node


def _refuse_depth(text: str, where: str) -> None:
    """Raise InputError for collections nested too deep, before anything recurses over them."""
    depth = 0
    event: Any
    for event in yaml.parse(text, Loader=YAML_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _DEPTH:
                raise InputError(
                    f"the YAML is nested deeper than {_DEPTH} levels",
                    where=f"{where}, line {_line(event)}",
                    remedy="a handful of levels is enough: check the brackets there",
                )
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _refuse_size(node: yaml.Node, where: str) -> None:
    """Raise InputError for aliases that contain themselves, or that expand to too many values or too deep."""
    sizes: dict[int, tuple[int, int]] = {}
    open_nodes: set[int] = set()

    def size(inner: yaml.Node) -> tuple[int, int]:
        if id(inner) in open_nodes:
            raise InputError(
                "an alias contains itself",
                where=f"{where}, line {_line(inner)}",
                remedy="write the value out",
            )
        if id(inner) not in sizes:
            open_nodes.add(id(inner))
            parts = [size(child) for child in _children(inner)]
            open_nodes.discard(id(inner))
            sizes[id(inner)] = 1 + sum(count for count, _ in parts), 1 + max((deep for _, deep in parts), default=0)
        return sizes[id(inner)]

    count, deep = size(node)
    if count > _NODES or deep > 2 * _DEPTH:
        raise InputError(
            f"the file holds {count:,} values with its aliases expanded, nested {deep} deep",
            where=where,
            remedy=f"at most {_NODES:,} values can be read: write less, or in several files",
        )


def _line(marked: Any) -> int:
    return 0 if marked.start_mark is None else int(marked.start_mark.line) + 1


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value


def _lines(node: yaml.Node, location: Location, source: str) -> Iterator[tuple[Location, int]]:
    """Yield the line of every location below a node; raises InputError for a key given twice."""
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield (*location, index), _line(item)
            if not isinstance(item, yaml.ScalarNode):
                yield from _lines(item, (*location, index), source)
    elif isinstance(node, yaml.MappingNode):
        known: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), _line(key)
            if name in known:
                raise InputError(
                    f"the key '{name[:80]}' is given twice",
                    where=f"{source}, lines {known[name]} and {line}",
                    remedy="keep one of them",
                )
            known[name] = line
            yield (*location, name), line
            if not isinstance(value, yaml.ScalarNode):
                yield from _lines(value, (*location, name), source)


def _refuse_bases(found: YamlText, node: yaml.Node, location: Location) -> None:
    """Raise InputError for a number that YAML 1.1 reads in base 60 (`1:30`) or in base 8 (`010`)."""
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _refuse_bases(found, item, (*location, index))
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            _refuse_bases(found, value, (*location, str(key.value)))
    elif node.tag in _NUMBER_TAGS and _OTHER_BASE.fullmatch(node.value):
        base = 60 if ":" in node.value else 8
        raise InputError(
            f"{node.value} is read as a number in base {base}",
            where=found.where(location),
            remedy=f"write the number in base 10, or put a text in quotes: '{node.value}'",
        )


def _refuse_values(found: YamlText, value: object, location: Location) -> None:
    if isinstance(value, Mapping):
        for name, item in value.items():
            _refuse_values(found, str(name), (*location, str(name)))
            _refuse_values(found, item, (*location, str(name)))
        return
    if isinstance(value, list):
        for index, item in enumerate(value):
            _refuse_values(found, item, (*location, index))
        return
    fault = _fault(value)
    if fault is not None:
        raise InputError(fault[0], where=found.where(location), remedy=fault[1])


def _fault(value: object) -> tuple[str, str] | None:
    """Return what makes a value unusable and how to correct it, or None."""
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        odd = next((c for c in value if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t"), None)
        return (f"the text holds the control character U+{ord(odd):04X}", "take it out") if odd else None
    if isinstance(value, int):
        fits = -_INTEGERS <= value < _INTEGERS
        return None if fits else ("the number does not fit 64 bits", "give a number below 2^63")
    if isinstance(value, float):
        return None if math.isfinite(value) else (f"the number is {value}", "give a finite number")
    if isinstance(value, datetime.date):
        return f"{value} is read as a date", f"put it in quotes: '{value}'"
    return f"a value of the type {type(value).__name__} cannot be a setting", "write a number, a text, a list or keys"
