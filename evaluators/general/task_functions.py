"""Python that a task YAML names with `!function module.name`: found without running it, or imported."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from sphere_core.foundation.errors import InputError

__all__ = ["NamedFunction", "import_functions", "module_file", "named_functions", "require_function"]

_NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
# Its version is part of every identity; any other installed module is not.
_HARNESS = "lm_eval."


class NamedFunction(str):
    """The name of a function in a task YAML, as `!function` gives it."""

    __slots__ = ()


def named_functions(value: object) -> Iterator[NamedFunction]:
    """Yield the functions that a configuration names, at any depth, in its order."""
    if isinstance(value, NamedFunction):
        yield value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from named_functions(name)
            yield from named_functions(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from named_functions(item)


def module_file(function: NamedFunction, folder: Path) -> Path:
    """Return where the module of a function is if it is beside the YAML; the file need not be there."""
    return folder / f"{function.rpartition('.')[0].replace('.', '/')}.py"


def require_function(function: NamedFunction, folder: Path, *, where: str) -> None:
    """Raise InputError unless a function is in a file beside its YAML, or in the harness; runs nothing.

    Code from elsewhere could change without changing the identity of what it computes.
    """
    if not _NAME.fullmatch(function):
        raise InputError(f"'{function}' is not the name of a function", where=where, remedy="write module.function")
    if function.startswith(_HARNESS):
        return
    module, name = module_file(function, folder), function.rpartition(".")[2]
    if not module.is_file():
        raise InputError(
            f"'{function}' is in no file beside the task",
            where=where,
            remedy=f"put its code into {module}: code from elsewhere is not part of a score's identity",
        )
    try:
        parsed = ast.parse(module.read_bytes(), str(module))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"not valid Python: {reason}", where=str(module), remedy="correct the file") from error
    if name not in _top_level_names(parsed):
        raise InputError(f"the file has no '{name}'", where=str(module), remedy=f"define it there, or correct {where}")


def _top_level_names(module: ast.Module) -> set[str]:
    """Return every name that code outside of functions and classes may bind."""
    found: set[str] = set()
    pending: list[ast.AST] = [module]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.alias):
            found.add(node.asname or node.name.partition(".")[0])
        pending += ast.iter_child_nodes(node)
    return found


def import_functions(value: object, folder: Path) -> object:
    """Return a configuration with the functions that it names imported: their modules are run. Imports the harness.

    Raises InputError for whatever their code raises.
    """
    if isinstance(value, NamedFunction):
        return _imported(value, folder)
    if isinstance(value, Mapping):
        return {name: import_functions(item, folder) for name, item in value.items()}
    if isinstance(value, list):
        return [import_functions(item, folder) for item in value]
    return value


def _imported(function: NamedFunction, folder: Path) -> object:
    from lm_eval.tasks._yaml_loader import _import_func_in_yml

    try:
        return _import_func_in_yml(str(function), folder)
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:  # whatever the module's own code raises
        raise InputError(
            f"'{function}' cannot be imported: {type(error).__name__}: {error}",
            where=str(folder),
            remedy="correct its code; a task's YAML says which function it names",
        ) from error
