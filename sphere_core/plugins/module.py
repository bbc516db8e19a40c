"""A plugin's module: its source is run, and its tables are read. Loading a plugin runs its code."""

import ast
import contextlib
import importlib
import importlib.abc
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.fingerprint import file_digest, fingerprint
from sphere_core.plugins.reference import PluginReference

__all__ = ["TABLES", "Plugin", "installed_plugin", "package_digest", "plugin_of_source"]

# The name of each kind's table in a plugin's module, as in the release.
TABLES = {
    "editor": "EDITORS",
    "regularizer": "REGULARIZERS",
    "evaluator": "EVALUATORS",
    "dataset": "DATASETS",
    "family": "FAMILIES",
}
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_ALONE = "a plugin file is carried alone to where it is run: make a package of the code"


@dataclass(frozen=True)
class Plugin:
    """A loaded plugin: its reference, where it is, and its rows by kind and name. `source` is None for a package."""

    reference: PluginReference
    place: str
    rows: Mapping[str, Mapping[str, Any]]
    source: bytes | None = None


class _SourceLoader(importlib.abc.ExecutionLoader):
    """Runs a given text as a module; tracebacks show its lines."""

    def __init__(self, text: str, place: str) -> None:
        self._text, self._place = text, place

    def get_source(self, fullname: str) -> str:
        return self._text

    def get_filename(self, fullname: str) -> str:
        return self._place


def plugin_of_source(source: bytes, *, name: str, digest: str, place: str) -> Plugin:
    """Run a plugin file's source and return its rows. One source is run once per process, whatever its name.

    `place` is the file that errors name. What the source prints while it runs goes to standard error. Raises InputError
    for text that is not UTF-8, an error while it runs, a use of `__file__`, and a module without a table.
    """
    reference = PluginReference(name=name, digest=digest)
    module_name = f"sphere_plugin_{digest[:16]}"
    module = sys.modules.get(module_name)
    if module is None:
        try:
            text = source.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"the plugin '{name}' is not UTF-8 text", where=place, remedy="save it as UTF-8"
            ) from error
        module = _run(module_name, text, name=name, place=place)
    return Plugin(reference, place, _tables(module, name=name, place=place), source)


def _run(module_name: str, text: str, *, name: str, place: str) -> ModuleType:
    _running(lambda: _refuse_own_path(text, name=name, place=place), name=name, place=place)
    spec = importlib.util.spec_from_loader(module_name, _SourceLoader(text, place), origin=place)
    if spec is None or spec.loader is None:
        raise InputError(f"the plugin '{name}' cannot be loaded", where=place)
    module = importlib.util.module_from_spec(spec)
    loader = spec.loader
    # Dataclasses and pydantic look their module up while it is being run.
    sys.modules[module_name] = module
    try:
        _running(lambda: loader.exec_module(module), name=name, place=place)
    except InputError:
        del sys.modules[module_name]
        raise
    return module


def _refuse_own_path(text: str, *, name: str, place: str) -> None:
    """Raise InputError if the source reads its own path, unless under `if __name__ == ...`, which a plugin is not."""
    line = next(_uses_of_own_path(ast.parse(text, filename=place)), None)
    if line is not None:
        raise InputError(
            f"the plugin '{name}' uses __file__",
            where=f"{place}, line {line}",
            remedy=f"{_ALONE} and the data that it reads; or write the data into this file",
        )


def _uses_of_own_path(tree: ast.AST) -> Iterator[int]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Name) and node.id == "__file__":
            yield node.lineno
        elif not (isinstance(node, ast.If) and "__name__" in ast.dump(node.test)):
            yield from _uses_of_own_path(node)


def installed_plugin(module_name: str) -> Plugin:
    """Import a module of an installed package and return its rows; raises InputError as `plugin_of_source` does."""
    spec = None
    top = module_name.partition(".")[0]
    if importlib.util.find_spec(top) is not None:
        module = _running(lambda: importlib.import_module(module_name), name=module_name, place=module_name)
        spec = module.__spec__
    if spec is None:
        raise InputError(
            f"the plugin '{module_name}' is not installed here",
            where=f"module {module_name}",
            remedy="install its package on every node, into the environment that runs sphere",
        )
    place = spec.origin or module_name
    reference = PluginReference(name=module_name, digest=package_digest(module_name), packaged=True)
    return Plugin(reference, place, _tables(module, name=module_name, place=place))


def package_digest(module_name: str) -> str:
    """Return the digest of the top-level package (or of the one file) that holds a module: its code and data files."""
    spec = importlib.util.find_spec(module_name.partition(".")[0])
    if spec is None:
        raise InputError(f"the package of '{module_name}' is not installed here", remedy="install it on every node")
    if spec.submodule_search_locations is None:
        return file_digest(Path(str(spec.origin)))
    files = {
        path.relative_to(folder).as_posix(): path
        for folder in map(Path, spec.submodule_search_locations)
        for path in folder.rglob("*")
        if path.is_file() and _counts(path.relative_to(folder))
    }
    return fingerprint({name: file_digest(path) for name, path in sorted(files.items())})


def _counts(path: Path) -> bool:
    """Return whether a package's file can change a number: not what type checkers and the interpreter use."""
    if path.suffix in (".py", ".pyc", ".pyi") or path.name == "py.typed":
        return path.suffix == ".py"
    return not any(part.startswith(".") for part in path.parts)


def _running(work: Callable[[], Any], *, name: str, place: str) -> Any:
    """Run a plugin's code; an error of it becomes an InputError that names its line."""
    try:
        # Standard output belongs to what the command prints, which may be JSON.
        with contextlib.redirect_stdout(sys.stderr):
            return work()
    except InputError:
        raise
    except SyntaxError as error:
        raise InputError(
            f"the plugin '{name}' is not valid Python: {error.msg}",
            where=f"{error.filename or place}, line {error.lineno}",
            remedy="correct this line",
        ) from error
    except (Exception, SystemExit) as error:  # whatever a plugin raises while it is imported is a fault of its own
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == place]
        line = f", line {frames[-1].lineno}" if frames else ""
        remedy = "correct this line"
        if isinstance(error, ModuleNotFoundError):
            remedy = f"install what it imports; {_ALONE}, if it is in several files"
        elif isinstance(error, ImportError) and "relative import" in str(error):
            remedy = f"{_ALONE} in these files"
        raise InputError(
            f"the plugin '{name}' cannot be imported: {type(error).__name__}: {error}",
            where=f"{place}{line}",
            remedy=remedy,
        ) from error


def _tables(module: ModuleType, *, name: str, place: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for kind, table in TABLES.items():
        rows = getattr(module, table, None)
        if rows is None:
            continue
        if not isinstance(rows, Mapping):
            raise InputError(
                f"{table} of the plugin '{name}' is a {type(rows).__name__}",
                where=place,
                remedy=f"write a dictionary of names and rows: {table} = {{'name': ...}}",
            )
        for row in rows:
            if not isinstance(row, str) or _NAME.fullmatch(row) is None:
                raise InputError(
                    f"{table} of the plugin '{name}' has the name {row!r}",
                    where=place,
                    remedy="names are lower case: letters, digits and underscores",
                )
        found[kind] = dict(rows)
    if not any(found.values()):
        raise InputError(
            f"the plugin '{name}' has no rows",
            where=place,
            remedy=f"define one of {', '.join(TABLES.values())}; 'sphere new regularizer NAME' writes the start of one",
        )
    return found
