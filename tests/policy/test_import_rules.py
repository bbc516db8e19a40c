"""Each rule of imports finds what breaks it, and passes what does not."""

from pathlib import Path

import pytest
from import_rules import (
    Import,
    all_imports,
    first_cycle,
    forbidden_edges,
    hidden_imports,
    star_imports,
    strayed_imports,
    unlisted_edges,
)

# A table of rooms as `test_layering` has one.
ROOMS = {"workflows.store": "", "workflows.driver": "store", "sphere_core.requests": "foundation"}


def write_tree(root: Path, files: dict[str, str]) -> list[Import]:
    """Write a small project and return its imports."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return all_imports(root)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("sphere_core/energy.py", "import ray\n"),
        ("sphere_core/energy.py", "from ray.util import get_node_ip_address\n"),
        ("sphere_core/energy.py", "def late():\n    import lm_eval.tasks\n"),
        ("sphere_core/energy.py", "from evaluators import quality\n"),
        ("sphere_core/editors/rows.py", "from ...workflows import plan\n"),
        ("sphere_core/energy.py", "import importlib\nimportlib.import_module('ray')\n"),
        ("sphere_core/energy.py", "load_object('workflows.cli:main')\n"),
        ("sphere_core/entry.py", "load_object('workflows.store.plan:read_plan')\n"),
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


def test_an_edge_between_rooms_that_is_in_the_table_passes(tmp_path: Path) -> None:
    files = {"workflows/store/state.py": "", "workflows/driver/driver.py": "from workflows.store import state\n"}
    assert unlisted_edges(write_tree(tmp_path, files), ROOMS) == []


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


def test_a_command_may_import_what_it_runs_when_it_is_called(tmp_path: Path) -> None:
    text = "def run():\n    from workflows.runs import sweep\n"
    imports = write_tree(tmp_path, {"workflows/commands/run.py": text, "workflows/runs/sweep.py": text})
    assert [line.split(":")[0] for line in hidden_imports(imports)] == ["workflows.runs.sweep"]


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
