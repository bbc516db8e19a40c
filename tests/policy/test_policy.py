"""House rules that a machine can check. Each rule has a test that shows that it can fail."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from repository import REPOSITORY

PACKAGES = ("sphere_core", "evaluators", "workflows")
TEXT_FOLDERS = (*PACKAGES, "tests", "benchmarks", "examples", "docs", "deploy", ".ci")
TEXT_SUFFIXES = {".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".json", ".sh", ""}
MAX_LINES = 400

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


# A rule takes the text of a file and returns the numbers of the lines that break it.
Rule = Callable[[str], list[int]]


def walk(source: str) -> Iterator[ast.AST]:
    """Yield every node of a source text."""
    return ast.walk(ast.parse(source))


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


def is_container(value: ast.expr | None) -> bool:
    """Say whether an expression builds a mutable container."""
    literals = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
    return isinstance(value, literals) or (isinstance(value, ast.Call) and called_name(value) in CONTAINER_CALLS)


def module_containers(source: str) -> list[int]:
    """Return the lines that bind a mutable container at module level to a name that is no constant."""
    lines = []
    pending: list[ast.AST] = [ast.parse(source)]
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
    """Tell whether a call is torch.load(..., weights_only=True), which builds tensors and nothing else."""
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    flag = given.get("weights_only")
    return called_name(call) == "load" and isinstance(flag, ast.Constant) and flag.value is True


def unsafe_reads(source: str) -> list[int]:
    """Return the lines that read or write a format which can run code; tensors alone may be read from a pickle."""
    nodes = list(walk(source))
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


def machine_paths(text: str) -> list[int]:
    """Return the lines that hold a path of somebody's machine."""
    return [number for number, line in enumerate(text.splitlines(), start=1) if MACHINE_PATH.search(line)]


def code_files(folders: tuple[str, ...]) -> list[Path]:
    """Return the Python files of the folders of this repository."""
    return [path for folder in folders for path in sorted((REPOSITORY / folder).rglob("*.py"))]


def text_files() -> list[Path]:
    """Return the text files that belong to the project, data aside."""
    inside = [path for folder in TEXT_FOLDERS for path in sorted((REPOSITORY / folder).rglob("*"))]
    return [
        path
        for path in [*REPOSITORY.iterdir(), *inside]
        if path.is_file() and path.suffix in TEXT_SUFFIXES and path.name != ".git"
    ]


# The one call that may let a model's own code in: it passes on what the user has asked for.
LETS_CODE_IN = {"sphere_core/models/loading.py": 1}
RULES = [prints, module_containers, state_in_modules, unsafe_reads, fixed_devices, harness_caches]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_packages_keep_the_rule(rule: Rule) -> None:
    broken = {
        str(path.relative_to(REPOSITORY)): rule(path.read_text(encoding="utf-8")) for path in code_files(PACKAGES)
    }
    allowed = LETS_CODE_IN if rule is unsafe_reads else {}
    assert {path: len(lines) for path, lines in broken.items() if lines} == allowed


def test_files_are_short() -> None:
    files = code_files((*PACKAGES, "tests"))
    assert [str(path) for path in files if too_long(path.read_text(encoding="utf-8"))] == []


def test_no_path_of_a_machine() -> None:
    files = [path for path in text_files() if "__pycache__" not in path.parts]
    broken = {str(path.relative_to(REPOSITORY)): machine_paths(path.read_text(encoding="utf-8")) for path in files}
    assert {path: lines for path, lines in broken.items() if lines} == {}


def test_docs_name_tests_that_exist() -> None:
    named = {
        name for path in (REPOSITORY / "docs").glob("*.md") for name in re.findall(r"`(test_\w+)`", path.read_text())
    }
    assert "test_survival" in named
    there = {path.stem for path in (REPOSITORY / "tests").rglob("test_*.py")}
    assert sorted(named - there) == []


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (prints, "def f():\n    print('x')"),
        (too_long, "\n" * (MAX_LINES + 1)),
        (module_containers, "cache = {}"),
        (module_containers, "seen: set[str] = set()"),
        (module_containers, "if True:\n    pending = collections.deque()"),
        (module_containers, "names = [n for n in 'abc']"),
        (state_in_modules, "def f():\n    global x\n    x = 1"),
        (state_in_modules, "TABLE = {}\ndef f():\n    TABLE['a'] = 1"),
        (state_in_modules, "TABLE = []\ndef f():\n    TABLE.append(1)"),
        (state_in_modules, "@functools.lru_cache(maxsize=None)\ndef f(): ..."),
        (state_in_modules, "@cache\ndef f(): ..."),
        (unsafe_reads, "import pickle"),
        (unsafe_reads, "from cloudpickle import dumps"),
        (unsafe_reads, "weights = torch.load(path)"),
        (unsafe_reads, "weights = torch.load(path, weights_only=flag)"),
        (unsafe_reads, "from torch import load"),
        (unsafe_reads, "yaml.load(text, Loader=yaml.SafeLoader)"),
        (unsafe_reads, "numpy.load(path, allow_pickle=True)"),
        (unsafe_reads, "load(path, trust_remote_code=flag)"),
        (harness_caches, "simple_evaluate(model, use_cache='answers.db')"),
        (harness_caches, "evaluate(lm, tasks, cache_requests=True)"),
        (fixed_devices, "x = torch.zeros(1, device='cuda')"),
        (fixed_devices, "x = f'cuda:{rank}'"),
        (fixed_devices, "x = model.cuda()"),
        (machine_paths, "root = '/" + "ro" + "ot/data'"),
        (machine_paths, "see /" + "ho" + "me/someone/models"),
    ],
)
def test_a_broken_rule_is_found(rule: Rule, source: str) -> None:
    assert len(rule(source)) == 1


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (prints, "console.print('x')"),
        (too_long, "\n" * MAX_LINES),
        (module_containers, "NAMES = ['a']\n__all__ = ['f']\npair = (1, 2)\ndef f():\n    seen = {}"),
        (module_containers, "class A:\n    rows: dict = {}"),
        (state_in_modules, "TABLE = {'a': 1}\ndef f(d):\n    d['a'] = TABLE['a']\n    return TABLE.get('b')"),
        (
            unsafe_reads,
            "yaml.safe_load(text)\nnumpy.load(path, allow_pickle=False)\nsafetensors.torch.load_file(p)",
        ),
        (unsafe_reads, "weights = torch.load(path, weights_only=True)"),
        (fixed_devices, "def f():\n    'cuda'\n    return torch.device(name)"),
        (machine_paths, "network/" + "work/x and ~/.ray and ./ro" + "ot/x"),
    ],
)
def test_a_kept_rule_passes(rule: Rule, source: str) -> None:
    assert rule(source) == []
