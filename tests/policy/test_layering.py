"""Who may import whom: workflows -> evaluators -> sphere_core, and inside each package room by room; without cycles,
at the top of the file."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from repository import REPOSITORY

PACKAGES = ("sphere_core", "evaluators", "workflows")

# What a package must not import, by the first part of the module's name.
FORBIDDEN = {
    "sphere_core": {"evaluators", "workflows", "ray", "lm_eval", "tests", "benchmarks"},
    "evaluators": {"workflows", "ray", "tests", "benchmarks"},
    "workflows": {"lm_eval", "tests", "benchmarks"},
}

# A third party that only one room may import.
ONLY_IN = {"ray": "workflows.cluster", "lm_eval": "evaluators.general"}

# Room to rooms of the same package. A room is a folder of a package, or a file at its root. A new edge is added here
# on purpose, and only where it keeps the arrows pointing one way; an edge that nothing uses any more is taken out.
ROOMS = {
    "sphere_core.checkpoints": "foundation",
    "sphere_core.costs": "foundation hyperparameters methods models",
    "sphere_core.datasets": "foundation requests",
    "sphere_core.editors": "checkpoints locate models numerics regularizers requests solver",
    "sphere_core.export": "foundation models",
    "sphere_core.hyperparameters": "foundation",
    "sphere_core.locate": "foundation hyperparameters models requests",
    "sphere_core.methods": "editors foundation hyperparameters locate moments numerics regularizers solver",
    "sphere_core.models": "datasets foundation numerics",
    "sphere_core.moments": "foundation locate models numerics",
    "sphere_core.numerics": "foundation",
    "sphere_core.regularizers": "checkpoints models numerics solver",
    "sphere_core.requests": "foundation",
    "sphere_core.solver": "checkpoints numerics",
    "sphere_core.streams": "datasets foundation locate models requests",
    "sphere_core.trajectory": "checkpoints editors foundation hyperparameters locate models requests streams",
    "evaluators.edit_quality": "base statistics",
    "evaluators.general": "base statistics",
    "evaluators.geometry": "base",
    "evaluators.registry": "base edit_quality general geometry",
    "workflows.cluster": "driver replicas sweeps",
    "workflows.commands": "cluster moments preflight results runs store sweeps",
    "workflows.driver": "replicas store sweeps",
    "workflows.moments": "store",
    "workflows.preflight": "sweeps",
    "workflows.replicas": "moments store",
    "workflows.results": "store",
    "workflows.runs": "cluster driver moments replicas results store sweeps",
    "workflows.sweeps": "moments store",
}


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
        if name in {"import_module", "__import__"} and isinstance(argument, ast.Constant):
            yield str(argument.value)


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
    return [str(found) for found in imports if top(found.target) in FORBIDDEN[top(found.importer)]]


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
    """Return the imports of first-party modules inside a function."""
    return [str(found) for found in imports if found.in_function and top(found.target) in PACKAGES]


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


def write_tree(root: Path, files: dict[str, str]) -> list[Import]:
    """Write a small project and return its imports."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return all_imports(root)


def test_packages_are_there() -> None:
    missing = [name for name in PACKAGES if not (REPOSITORY / name / "__init__.py").is_file()]
    assert missing == []


def test_imports_point_one_way() -> None:
    assert forbidden_edges(all_imports(REPOSITORY)) == []


def test_rooms_import_only_the_rooms_that_the_table_allows() -> None:
    assert unlisted_edges(all_imports(REPOSITORY), ROOMS) == []


def test_the_table_of_rooms_holds_no_edge_that_is_not_there() -> None:
    there = room_edges(all_imports(REPOSITORY))
    listed = {(start, f"{top(start)}.{end}") for start, ends in ROOMS.items() for end in ends.split()}
    assert listed - there.keys() == set()


def test_arrows_between_rooms_point_one_way() -> None:
    graph = {start: {f"{top(start)}.{end}" for end in ends.split()} for start, ends in ROOMS.items()}
    TopologicalSorter(graph).prepare()


def test_ray_and_the_harness_are_each_imported_in_one_room() -> None:
    assert strayed_imports(all_imports(REPOSITORY)) == []


def test_no_first_party_import_inside_a_function() -> None:
    assert hidden_imports(all_imports(REPOSITORY)) == []


def test_no_star_import() -> None:
    assert star_imports(all_imports(REPOSITORY)) == []


def test_no_import_cycle() -> None:
    assert first_cycle(all_imports(REPOSITORY)) == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("sphere_core/energy.py", "import ray\n"),
        ("sphere_core/energy.py", "from ray.util import get_node_ip_address\n"),
        ("sphere_core/energy.py", "def late():\n    import lm_eval.tasks\n"),
        ("sphere_core/energy.py", "from evaluators import quality\n"),
        ("sphere_core/editors/rows.py", "from ...workflows import plan\n"),
        ("sphere_core/energy.py", "import importlib\nimportlib.import_module('ray')\n"),
        ("evaluators/quality.py", "import workflows.plan\n"),
        ("evaluators/quality.py", "try:\n    import ray\nexcept ImportError:\n    ray = None\n"),
        ("workflows/plan.py", "from lm_eval import simple_evaluate\n"),
        ("workflows/plan.py", "from tests import conftest\n"),
    ],
)
def test_a_wrong_edge_is_found(tmp_path: Path, path: str, text: str) -> None:
    assert len(forbidden_edges(write_tree(tmp_path, {path: text}))) == 1


def test_a_right_edge_passes(tmp_path: Path) -> None:
    imports = write_tree(
        tmp_path,
        {
            "sphere_core/energy.py": "import torch\nimport raytracing\n",
            "evaluators/quality.py": "import lm_eval\nfrom sphere_core import energy\n",
            "workflows/plan.py": "import ray\nfrom evaluators import quality\nimport sphere_core.energy\n",
        },
    )
    assert forbidden_edges(imports) == []
    assert first_cycle(imports) == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("workflows/store/state.py", "from workflows.driver import driver\n"),
        ("workflows/driver/driver.py", "import workflows.cluster.actor\n"),
        ("workflows/new_room/file.py", "from workflows.store import state\n"),
        ("sphere_core/requests.py", "from sphere_core.models import site\n"),
    ],
)
def test_an_edge_between_rooms_that_is_not_in_the_table_is_found(tmp_path: Path, path: str, text: str) -> None:
    targets = (
        "workflows/driver/driver.py",
        "workflows/cluster/actor.py",
        "workflows/store/state.py",
        "sphere_core/models/site.py",
    )
    imports = write_tree(tmp_path, {**dict.fromkeys(targets, ""), path: text})
    assert len(unlisted_edges(imports, ROOMS)) == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("workflows/driver/driver.py", "import ray\n"),
        ("workflows/runs/sweep.py", "def late():\n    from ray.util import state\n"),
        ("evaluators/edit_quality/probes.py", "from lm_eval.api.model import LM\n"),
    ],
)
def test_a_third_party_outside_its_room_is_found(tmp_path: Path, path: str, text: str) -> None:
    assert len(strayed_imports(write_tree(tmp_path, {path: text}))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "def late():\n    from sphere_core import energy\n",
        "class A:\n    async def late(self):\n        if self:\n            import sphere_core.energy\n",
        "def late():\n    from . import plan\n",
        "def late():\n    __import__('sphere_core.energy')\n",
    ],
)
def test_a_hidden_import_is_found(tmp_path: Path, text: str) -> None:
    imports = write_tree(tmp_path, {"workflows/late.py": text, "workflows/plan.py": ""})
    assert len(hidden_imports(imports)) == 1


def test_a_third_party_import_inside_a_function_passes(tmp_path: Path) -> None:
    assert hidden_imports(write_tree(tmp_path, {"workflows/late.py": "def f():\n    import ray\n"})) == []


def test_a_star_import_is_found(tmp_path: Path) -> None:
    assert len(star_imports(write_tree(tmp_path, {"evaluators/a.py": "from math import *\n"}))) == 1


@pytest.mark.parametrize(
    "files",
    [
        {"sphere_core/a.py": "from sphere_core import b\n", "sphere_core/b.py": "import sphere_core.a\n"},
        {"sphere_core/a.py": "from . import b\n", "sphere_core/b.py": "from .a import x\n"},
        {
            "sphere_core/__init__.py": "from sphere_core.a import x\n",
            "sphere_core/a.py": "from sphere_core import x\n",
        },
        {"sphere_core/a.py": "import sphere_core.a\n"},
        {
            "workflows/a.py": "from workflows.b import x\n",
            "workflows/b.py": "from workflows.c import x\n",
            "workflows/c.py": "from workflows.a import x\n",
        },
    ],
)
def test_a_cycle_is_found(tmp_path: Path, files: dict[str, str]) -> None:
    assert first_cycle(write_tree(tmp_path, files)) != []


def test_a_facade_over_its_modules_is_no_cycle(tmp_path: Path) -> None:
    imports = write_tree(
        tmp_path,
        {
            "sphere_core/__init__.py": "from sphere_core.a import x\nfrom sphere_core.b import y\n",
            "sphere_core/a.py": "from sphere_core.b import y\n",
            "sphere_core/b.py": "",
        },
    )
    assert first_cycle(imports) == []
