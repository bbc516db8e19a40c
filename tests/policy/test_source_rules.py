"""Each rule of source text finds what breaks it, and passes what does not."""

from pathlib import Path

import pytest
from source_rules import (
    MAX_LINES,
    MAX_LINES_OF_A_BODY,
    Rule,
    fixed_devices,
    harness_caches,
    long_bodies,
    machine_paths,
    module_containers,
    prints,
    state_in_modules,
    too_long,
    unknown_names,
    unsafe_reads,
)


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (prints, "def f():\n    print('x')"),
        (too_long, "\n" * (MAX_LINES + 1)),
        (long_bodies, "def f():\n" + "    x = 1\n" * (MAX_LINES_OF_A_BODY + 1)),
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
        (long_bodies, "def f(\n" + "\n" * MAX_LINES + "):\n" + "    x = 1\n" * MAX_LINES_OF_A_BODY),
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


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("`workflows.store.plan` and `workflows.store.plan.Plan`\n`workflows.store`", []),
        ("`workflows.store.open_store` and\n`workflows.store.open_stores()`", [2]),
        ("first\n`workflows.plan` is gone", [2]),
        ("`docs/data.md`, `docs/date.md`", [1]),
        ("workflows.plan, in no backticks, may be a key of something", []),
    ],
)
def test_names_of_modules_and_files_that_are_not_there_are_found(tmp_path: Path, text: str, lines: list[int]) -> None:
    for name, content in {"plan": "", "__init__": "from x import open_store"}.items():
        path = tmp_path / "workflows" / "store" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "data.md").touch()
    assert unknown_names(text, tmp_path) == lines
