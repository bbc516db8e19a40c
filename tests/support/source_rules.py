"""House rules of source text: a rule takes the text of a file and returns the numbers of the lines that break it."""

import ast
import functools
import re
from collections.abc import Callable
from pathlib import Path

__all__ = [
    "MAX_LINES",
    "MAX_LINES_OF_A_BODY",
    "Rule",
    "fixed_devices",
    "harness_caches",
    "long_bodies",
    "machine_paths",
    "module_containers",
    "prints",
    "state_in_modules",
    "too_long",
    "unknown_names",
    "unsafe_reads",
]

MAX_LINES = 300
MAX_LINES_OF_A_BODY = 59

CONSTANT = re.compile(r"_{0,2}[A-Z][A-Z0-9_]*$|__\w+__$")
CONTAINER_CALLS = {
    "list",
    "dict",
    "set",
    "bytearray",
    "defaultdict",
    "OrderedDict",
    "Counter",
    "deque",
    "ChainMap",
}
MUTATORS = {"add", "append", "clear", "extend", "insert", "pop", "popitem", "remove", "setdefault", "update"}
CACHES = {"cache", "lru_cache"}
PICKLERS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {
    ("torch", "load"),
    ("torch", "save"),
    ("yaml", "load"),
    ("yaml", "load_all"),
    ("yaml", "unsafe_load"),
    ("yaml", "full_load"),
}
# Written in pieces, so that this file does not hold what it looks for.
MACHINE_PATH = re.compile(
    r"(?<![\w.~-])/(?:" + "|".join(["wo" + "rk", "ro" + "ot", "ho" + r"me/\w+", "Us" + r"ers/\w+"]) + r")/"
)

MODULE = re.compile(r"`((?:sphere_core|evaluators|workflows)(?:\.[a-z_]\w*)+)(?:\(\))?`")
PROJECT_FILE = re.compile(
    r"`((?:sphere_core|evaluators|workflows|tests|benchmarks|examples|deploy|docs)/[\w/]+\.(?:py|md|sh|ya?ml|json))`"
)

# A rule takes the text of a file and returns the numbers of the lines that break it.
Rule = Callable[[str], list[int]]


@functools.lru_cache(maxsize=1)
def parsed(source: str) -> ast.Module:
    """Return the tree of a source text; the last one is kept, for the next rule on the same text."""
    return ast.parse(source)


@functools.lru_cache(maxsize=1)
def walk(source: str) -> tuple[ast.AST, ...]:
    """Return every node of a source text."""
    return tuple(ast.walk(parsed(source)))


def called_name(node: ast.expr) -> str:
    """Return the last part of what is called or named: `a.b.c` gives `c`."""
    if isinstance(node, ast.Call):
        return called_name(node.func)
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def prints(source: str) -> list[int]:
    """Return the lines that call `print`."""
    calls = (node for node in walk(source) if isinstance(node, ast.Call))
    return [node.lineno for node in calls if isinstance(node.func, ast.Name) and node.func.id == "print"]


def too_long(source: str) -> list[int]:
    """Return the first line past the limit, if the text has one."""
    return [MAX_LINES + 1] if len(source.splitlines()) > MAX_LINES else []


def long_bodies(text: str) -> list[int]:
    """Return the lines of functions whose body, docstring included, is too long; a signature does not count."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.body[0].lineno >= MAX_LINES_OF_A_BODY
    ]


def is_container(value: ast.expr | None) -> bool:
    """Say whether an expression builds a mutable container."""
    literals = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
    return isinstance(value, literals) or (isinstance(value, ast.Call) and called_name(value) in CONTAINER_CALLS)


def module_containers(source: str) -> list[int]:
    """Return the lines that bind a mutable container at module level to a name that is no constant."""
    lines = []
    pending: list[ast.AST] = [parsed(source)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        if isinstance(node, ast.Assign | ast.AnnAssign) and is_container(node.value):
            lines += [node.lineno for name in names if not CONSTANT.match(name)]
        pending.extend(ast.iter_child_nodes(node))
    return lines


def state_in_modules(source: str) -> list[int]:
    """Return the lines that keep state in a module: `global`, a changed constant, a function cache."""
    lines = []
    for node in walk(source):
        if isinstance(node, ast.Global):
            lines.append(node.lineno)
        elif isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            lines += [node.lineno] if CONSTANT.match(getattr(node.value, "id", "-")) else []
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
            lines += [node.lineno] if CONSTANT.match(getattr(node.func.value, "id", "-")) else []
        elif isinstance(node, ast.FunctionDef):
            lines += [node.lineno for decorator in node.decorator_list if called_name(decorator) in CACHES]
    return lines


def reads_tensors_only(call: ast.Call) -> bool:
    """Return whether a call is torch.load(..., weights_only=True), which builds tensors and nothing else."""
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    flag = given.get("weights_only")
    return called_name(call) == "load" and isinstance(flag, ast.Constant) and flag.value is True


def unsafe_reads(source: str) -> list[int]:
    """Return the lines that read or write a format which can run code; tensors alone may be read from a pickle."""
    nodes = walk(source)
    tensors_only = [call.func for call in nodes if isinstance(call, ast.Call) and reads_tensors_only(call)]
    lines = []
    for node in nodes:
        if isinstance(node, ast.Import):
            lines += [node.lineno for alias in node.names if alias.name.partition(".")[0] in PICKLERS]
        elif isinstance(node, ast.ImportFrom):
            named = {((node.module or ""), alias.name) for alias in node.names}
            if (node.module or "").partition(".")[0] in PICKLERS or named & UNSAFE_CALLS:
                lines.append(node.lineno)
        elif isinstance(node, ast.Attribute):
            if (getattr(node.value, "id", ""), node.attr) in UNSAFE_CALLS and node not in tensors_only:
                lines.append(node.lineno)
        elif isinstance(node, ast.keyword) and node.arg in {"allow_pickle", "trust_remote_code"}:
            lines += [] if isinstance(node.value, ast.Constant) and node.value.value is False else [node.lineno]
    return lines


def harness_caches(source: str) -> list[int]:
    """Return the lines that switch on a cache of lm-eval: neither knows which weights or data it answers for.

    Its `use_cache` is a path; the flag of the same name that transformers takes is about one forward pass.
    """
    harmless: dict[str, tuple[object, ...]] = {"use_cache": (True, False, None), "cache_requests": (False,)}
    lines = []
    for node in walk(source):
        if isinstance(node, ast.keyword) and node.arg in harmless:
            constant = isinstance(node.value, ast.Constant) and node.value.value in harmless[node.arg]
            lines += [] if constant else [node.lineno]
    return lines


def docstrings(source: str) -> set[int]:
    """Return the lines on which docstrings begin."""
    bodies = (getattr(node, "body", None) for node in walk(source))
    firsts = (body[0] for body in bodies if isinstance(body, list) and body)
    return {
        first.value.lineno for first in firsts if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    }


def fixed_devices(source: str) -> list[int]:
    """Return the lines that name a GPU in a string, or move a tensor there by name."""
    documentation = docstrings(source)
    lines = []
    for node in walk(source):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.lineno not in documentation:
            lines += [node.lineno] if re.match(r"cuda(:|$)", node.value) else []
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "cuda":
            lines.append(node.lineno)
    return lines


def unknown_names(text: str, root: Path) -> list[int]:
    """Return the lines that name, in backticks, a module of the packages or a file of this project that is not there.

    What follows a module's name is an attribute, and is not checked; what follows a package's must be found in it.
    """
    lines = text.splitlines()
    modules = [(number, name) for number, line in enumerate(lines, start=1) for name in MODULE.findall(line)]
    files = [(number, name) for number, line in enumerate(lines, start=1) for name in PROJECT_FILE.findall(line)]
    unknown = [number for number, name in modules if not _is_module(name, root)]
    return sorted(unknown + [number for number, name in files if not (root / name).exists()])


def _is_module(name: str, root: Path) -> bool:
    folder = root
    for part in name.split("."):
        if (folder / f"{part}.py").is_file():
            return True
        if not (folder / part).is_dir():
            package = folder / "__init__.py"
            return package.is_file() and re.search(rf"\b{part}\b", package.read_text(encoding="utf-8")) is not None
        folder /= part
    return True


def machine_paths(text: str) -> list[int]:
    """Return the lines that hold a path of somebody's machine."""
    return [number for number, line in enumerate(text.splitlines(), start=1) if MACHINE_PATH.search(line)]
