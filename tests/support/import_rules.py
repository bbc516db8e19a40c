"""Rules of imports: which modules the packages import, and which of those imports break a rule."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

__all__ = [
    "PACKAGES",
    "Import",
    "all_imports",
    "first_cycle",
    "forbidden_edges",
    "hidden_imports",
    "room_edges",
    "star_imports",
    "strayed_imports",
    "top",
    "unlisted_edges",
]

PACKAGES = ("sphere_core", "evaluators", "workflows")

# What a package must not import, by the first part of the module's name.
FORBIDDEN = {
    "sphere_core": {"evaluators", "workflows", "ray", "lm_eval", "tests", "benchmarks"},
    "evaluators": {"workflows", "ray", "tests", "benchmarks"},
    "workflows": {"lm_eval", "tests", "benchmarks"},
}

# The `sphere` script is in sphere_core, because a foreign `workflows` may take the place of ours. It imports the
# command line by name, after it has looked whose that is.
ALLOWED = {("sphere_core.entry", "workflows.cli")}

# A third party that only one room may import.
ONLY_IN = {"ray": "workflows.cluster", "lm_eval": "evaluators.general"}


@dataclass(frozen=True)
class Import:
    """One module named by an import statement (or by a call that imports)."""

    importer: str
    target: str
    line: int
    in_function: bool
    star: bool = False

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.target}"


def module_paths(root: Path) -> dict[str, Path]:
    """Return every module of the packages below `root`, by dotted name; `pkg/__init__.py` is `pkg`."""
    found = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def absolute_base(node: ast.ImportFrom, importer: str, is_package: bool) -> str:
    """Return the module that `from X import ...` names, relative imports resolved."""
    if node.level == 0:
        return node.module or ""
    parts = importer.split(".")
    base = parts[: len(parts) - node.level + (1 if is_package else 0)]
    return ".".join([*base, node.module] if node.module else base)


def statement_targets(node: ast.AST, importer: str, is_package: bool, known: set[str]) -> Iterator[str]:
    """Yield the modules that one node imports; `from a import b` is `a.b` where that is a module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = absolute_base(node, importer, is_package)
        for alias in node.names:
            yield f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base
    elif isinstance(node, ast.Call) and node.args:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        argument = node.args[0]
        target = str(argument.value).partition(":")[0] if isinstance(argument, ast.Constant) else ""
        # `load_object` is how a module is loaded late; only in the wrong direction it is an import like any other.
        wrong = name == "load_object" and top(target) in FORBIDDEN[top(importer)]
        if target and (wrong or name in {"import_module", "__import__"}):
            yield target


def module_imports(importer: str, path: Path, known: set[str]) -> Iterator[Import]:
    """Yield every import of one module, wherever in the file it stands."""
    is_package = path.name == "__init__.py"
    pending: list[tuple[ast.AST, bool]] = [(ast.parse(path.read_text(encoding="utf-8")), False)]
    while pending:
        node, inside = pending.pop()
        star = isinstance(node, ast.ImportFrom) and node.names[0].name == "*"
        for target in statement_targets(node, importer, is_package, known):
            yield Import(importer, target, getattr(node, "lineno", 0), inside, star)
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        pending.extend((child, inside) for child in ast.iter_child_nodes(node))


def all_imports(root: Path) -> list[Import]:
    """Return every import of every module of the packages below `root`."""
    paths = module_paths(root)
    return [found for name, path in paths.items() for found in module_imports(name, path, set(paths))]


def top(module: str) -> str:
    """Return the first part of a dotted name."""
    return module.partition(".")[0]


def forbidden_edges(imports: list[Import]) -> list[str]:
    """Return the imports that cross a border in the wrong direction."""
    return [
        str(found)
        for found in imports
        if top(found.target) in FORBIDDEN[top(found.importer)] and (found.importer, found.target) not in ALLOWED
    ]


def room(module: str) -> str:
    """Return the room of a first-party module: its first two parts; a package by itself is no room."""
    return ".".join(module.split(".")[:2])


def room_edges(imports: list[Import]) -> dict[tuple[str, str], str]:
    """Return the edges between two rooms of one package, each with an import that makes it."""
    edges: dict[tuple[str, str], str] = {}
    for found in imports:
        ends = room(found.importer), room(found.target)
        if top(found.importer) == top(found.target) and ends[0] != ends[1] and all("." in end for end in ends):
            edges.setdefault(ends, str(found))
    return edges


def unlisted_edges(imports: list[Import], allowed: dict[str, str]) -> list[str]:
    """Return the imports that make an edge between rooms that the table does not hold."""
    return [
        text
        for (start, end), text in room_edges(imports).items()
        if end.split(".")[1] not in allowed.get(start, "").split()
    ]


def strayed_imports(imports: list[Import]) -> list[str]:
    """Return the imports of a third party outside the one room that may have it."""
    return [
        str(found) for found in imports if room(found.importer) != ONLY_IN.get(top(found.target), room(found.importer))
    ]


def hidden_imports(imports: list[Import]) -> list[str]:
    """Return the imports of first-party modules inside a function, but for commands.

    A command declares its options in a module that help imports, and imports what it runs when it is called.
    """
    inside = (found for found in imports if found.in_function and top(found.target) in PACKAGES)
    elsewhere = (found for found in inside if room(found.importer) != "workflows.commands")
    return [str(found) for found in elsewhere if (found.importer, found.target) not in ALLOWED]


def star_imports(imports: list[Import]) -> list[str]:
    """Return the imports of everything that a module holds."""
    return [str(found) for found in imports if found.star]


def first_cycle(imports: list[Import]) -> list[str]:
    """Return one cycle among first-party modules as a list of names, or an empty list."""
    graph: dict[str, set[str]] = {}
    for found in imports:
        if top(found.target) in PACKAGES:
            graph.setdefault(found.importer, set()).add(found.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []
