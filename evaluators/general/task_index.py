"""Finding a task, group or tag by its name among thousands of YAMLs, without parsing more than a few of them.

The harness parses all of its 14,000 files whenever a built-in name is requested (15 s and more). Reading them is
cheap; parsing is not. Here the files are searched for the name as a word, and only those that hold it are parsed.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from evaluators.general.task_files import task_config
from sphere_core.foundation.errors import InputError, nearest_name

# The harness is imported where a name is looked up in its index, not by callers that only use files.
if TYPE_CHECKING:
    from lm_eval.tasks._index import Entry, Kind

__all__ = ["FoundTasks", "TaskFolder", "harness_folder"]

_NAMED = re.compile(rb"""^["']?(?:task|group|tag)["']?\s*:\s*["']?([\w.+-]+)["']?\s*$""", re.MULTILINE)
_INCLUDES = re.compile(rb"""^["']?include["']?\s*:[ \t]*(?:["']?([^\s"'#]+)|((?:\n\s*-[ \t]*\S+)+))""", re.MULTILINE)
_FEW_WORDS = 8
_ITEM = re.compile(rb"""-[ \t]*["']?([^\s"']+)""")


def harness_folder() -> Path:
    """Return the folder of the tasks that come with lm-eval."""
    found = find_spec("lm_eval")
    if found is None or not found.submodule_search_locations:
        raise InputError("lm-eval is not installed", remedy="install the project with its dependencies")
    return Path(found.submodule_search_locations[0]) / "tasks"


@dataclass(frozen=True)
class FoundTasks:
    """What one name stands for: a registry the harness can load it from, and the files of tasks and groups."""

    name: str
    kind: "Kind"
    registry: Mapping[str, "Entry"]

    @property
    def task_files(self) -> dict[str, Path]:
        """The YAML of each task, in the order of names."""
        return {
            name: entry.yaml_path
            for name, entry in sorted(self.registry.items())
            if _is_task(entry) and entry.yaml_path is not None
        }

    @property
    def group_files(self) -> list[Path]:
        """The YAMLs of the groups."""
        groups = (entry for _, entry in sorted(self.registry.items()) if entry.kind.name == "GROUP")
        return [entry.yaml_path for entry in groups if entry.yaml_path is not None]

    def loadable(self) -> dict[str, "Entry"]:
        """Return the registry with every task's configuration whole, its data files found beside its YAML."""
        from lm_eval.tasks._index import Entry

        found = {}
        for name, entry in self.registry.items():
            if _is_task(entry) and entry.yaml_path is not None:
                config = task_config(entry.yaml_path, resolve=True)
                entry = Entry(name, entry.kind, None, cfg=config, tags=entry.tags)
            found[name] = entry
        return found


class TaskFolder:
    """The YAMLs below one folder, read once, as text."""

    def __init__(self, folder: Path) -> None:
        """Read them; raises InputError if there is no such folder or no task in it."""
        if not folder.is_dir():
            raise InputError("task folder not found", where=str(folder), remedy="check include_path")
        paths = (path for path in folder.rglob("*") if "yaml" in path.name and "__pycache__" not in path.parts)
        self.folder = folder
        self._texts = {path: path.read_bytes() for path in sorted(paths, key=lambda p: p.as_posix()) if path.is_file()}
        if not self._texts:
            raise InputError("the folder holds no task YAML", where=str(folder), remedy="a task YAML has a key 'task'")
        self._including = self._include_edges()

    def find(self, name: str) -> FoundTasks | None:
        """Return a task, a group with its members, or a tag with its tasks, of this name, or None."""
        index: dict[str, Entry] = {}
        parsed: dict[Path, dict[str, object]] = {}
        wanted, asked = {name}, set[str]()
        while wanted - asked:
            asked |= wanted
            for path in self._holding(wanted):
                if path not in parsed:
                    parsed[path] = self._parse(path)
            index = _indexed(parsed)
            wanted = {member for known in asked & index.keys() for member in _members(index[known])}
        if name not in index:
            return None
        return FoundTasks(name, index[name].kind, {key: index[key] for key in sorted(asked & index.keys())})

    def explain(self, name: str) -> None:
        """Raise InputError with what is wrong with a file here that names a task and cannot be read."""
        for path in self._holding({name}):
            task_config(path)

    def nearest(self, name: str) -> str | None:
        """Return the task, group or tag whose name is most similar to `name`."""
        return nearest_name(name, self.names())

    def names(self) -> list[str]:
        """Return the names of tasks, groups and tags that are alone on a line, sorted."""
        return sorted({found.decode() for text in self._texts.values() for found in _NAMED.findall(text)})

    def _holding(self, words: Iterable[str]) -> list[Path]:
        """Return the tasks' and groups' files that hold one of the words, themselves or in a file they include."""
        plain = [word.encode() for word in sorted(words)]
        pattern = re.compile(rb"(?<![\w./-])(?:" + b"|".join(map(re.escape, plain)) + rb")(?![\w-])")
        # Of few words the bytes are looked for first, ten times as fast as the pattern.
        few = plain if len(plain) <= _FEW_WORDS else [b""]
        found: set[Path] = set()
        new = {path for path, text in self._texts.items() if any(word in text for word in few) and pattern.search(text)}
        while new:
            found |= new
            new = {user for path in new for user in self._including.get(path, ())} - found
        return [path for path in self._texts if path in found and path.suffix == ".yaml"]

    def _include_edges(self) -> dict[Path, list[Path]]:
        """Return, for each file that others include, those others."""
        edges: dict[Path, list[Path]] = {}
        for path, text in self._texts.items():
            for one, several in _INCLUDES.findall(text):
                for name in [one] if one else _ITEM.findall(several):
                    base = Path(os.path.normpath(path.parent / name.decode()))
                    edges.setdefault(base, []).append(path)
        return edges

    def _parse(self, path: Path) -> dict[str, object]:
        from lm_eval.tasks._yaml_loader import load_yaml

        try:
            return dict(load_yaml(path, resolve_func=False))
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - the harness leaves out what it cannot read; a broken file is not the requested one
            return {}


def _is_task(entry: "Entry") -> bool:
    return entry.kind.name in ("TASK", "PY_TASK")


def _indexed(parsed: Mapping[Path, dict[str, object]]) -> dict[str, "Entry"]:
    from lm_eval.tasks._index import TaskIndex

    index: dict[str, Entry] = {}
    for path in sorted(parsed, key=lambda p: p.as_posix()):
        if {"task", "group", "class"} & parsed[path].keys():
            if "group" not in parsed[path] and not isinstance(parsed[path].get("task", ""), str):
                raise InputError("the name of a task is a text", where=f"{path}, key task", remedy="write task: NAME")
            TaskIndex.process_cfg(dict(parsed[path]), path, index)
    return index


def _members(entry: "Entry") -> set[str]:
    """Return the names a group or tag is made of."""
    if entry.kind.name == "TAG":
        return set(entry.tags)
    return _group_members(entry.cfg or {}) if entry.kind.name == "GROUP" else set()


def _group_members(config: Mapping[str, object]) -> set[str]:
    members: set[str] = set()
    items = config.get("task")
    for item in items if isinstance(items, list) else []:
        if isinstance(item, str):
            members.add(item)
        elif isinstance(item, Mapping):
            inner = item.get("group", item.get("task"))
            if isinstance(inner, str):
                members.add(inner)
            if isinstance(item.get("task"), list):
                members |= _group_members(item)
    return members
