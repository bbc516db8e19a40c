"""What may be imported before a command does its work: help, tables and plans must not wait for torch.

One process imports all commands of a group one after another; the first that loads too much is named.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from repository import EXAMPLES, REPOSITORY
from sweep_files import tiny, write_sweep

from workflows.cli import COMMANDS

HEAVY = ("torch", "transformers", "lm_eval", "ray", "datasets", "scipy", "sklearn", "matplotlib", "pandas")


# Ends the process where the harness is imported: that it is says all, and the import takes seconds. A look whether it
# is installed imports nothing, and ends nothing.
HARNESS = """
class Harness:
    def find_spec(self, name, path=None, target=None):
        if name != "lm_eval":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        spec.loader = self
        return spec

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        found["ended by"] = ["lm_eval"]
        print(json.dumps(found), flush=True)
        os._exit(0)

sys.meta_path.insert(0, Harness())
"""


def loaded_by(code: str, *arguments: object) -> dict[str, list[str]]:
    """Run code in a fresh process; it calls `note(name)` to say which heavy modules are there by then.

    The import of the harness ends the process: the last name is then "ended by", whatever was still to be noted.
    """
    head = (
        "import importlib.machinery, json, os, sys\nheavy, found = set(json.loads(sys.argv[1])), {}\n"
        f"def note(name):\n    found[name] = sorted(heavy & set(sys.modules))\n{HARNESS}"
    )
    command = [sys.executable, "-c", f"{head}{code}\nprint(json.dumps(found))", json.dumps(HEAVY)]
    done = subprocess.run([*command, *map(str, arguments)], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_declaring_a_command_loads_nothing_heavy() -> None:
    """What `--help` of every command imports."""
    modules = sorted({module for module, *_ in COMMANDS.values()})
    code = (
        "import importlib\nfor name in sys.argv[2:]:\n"
        "    importlib.import_module(f'workflows.commands.{name}')\n    note(name)"
    )
    assert {name: found for name, found in loaded_by(code, *modules).items() if found} == {}


# What each of these commands runs, as the Python that it calls.
LIGHT = {
    "status": "workflows.results.status.status",
    "table": "workflows.results.tables.table",
    "ability": "workflows.results.tables.ability",
    "retention": "workflows.results.tables.retention",
    "gc": "workflows.store.garbage",
    "retry": "workflows.store.retry",
    "verify": "workflows.store.verification",
    "submit": "workflows.cluster.submit",
    "methods": "sphere_core.methods.method",
    "tasks": "evaluators.general.suites",
    "moments list": "workflows.moments.store",
    "plan": "workflows.sweeps.expand",
    # The driver of replicas in processes of their own.
    "run": "workflows.runs.sweep_file",
}


def test_commands_that_only_read_files_load_nothing_heavy() -> None:
    code = "import importlib\nfor name in sys.argv[2:]:\n    importlib.import_module(name)\n    note(name)"
    assert {name: found for name, found in loaded_by(code, *LIGHT.values()).items() if found} == {}


@pytest.mark.parametrize("sweep", ["quickstart", "user tasks"])
def test_a_plan_loads_the_harness_only_for_tasks_that_are_not_ours(sweep: str, tmp_path: Path) -> None:
    path = EXAMPLES / "quickstart.yaml"
    if sweep == "user tasks":
        source = REPOSITORY / "evaluators" / "general" / "tasks" / "factworld"
        (tmp_path / "own").mkdir()
        for file in source.iterdir():
            (tmp_path / "own" / file.name).write_bytes(file.read_bytes())
        path = write_sweep(tmp_path, tiny(evaluators={"general": {"tasks": ["own"]}}))
    code = (
        "from pathlib import Path\nfrom workflows.sweeps.expand import load_sweep\n"
        "load_sweep(Path(sys.argv[2]))\nnote('plan')"
    )
    found = loaded_by(code, path)
    assert found == ({"ended by": ["lm_eval"]} if sweep == "user tasks" else {"plan": []})


def test_a_replica_loads_the_harness_only_when_it_scores_with_it() -> None:
    code = (
        "import workflows.replicas.replica\nnote('replica')\n"
        "from evaluators.registry import build_evaluator, read_evaluator_settings\n"
        "build_evaluator(read_evaluator_settings({'kind': 'edit_quality'}, where='test'))\nnote('edit_quality')\n"
        "build_evaluator(read_evaluator_settings({'kind': 'geometry'}, where='test'))\nnote('geometry')\n"
        "build_evaluator(read_evaluator_settings({'kind': 'general', 'tasks': ['factworld']}, where='test'))\n"
        "note('general')"
    )
    found = loaded_by(code)
    assert list(found) == ["replica", "edit_quality", "geometry", "ended by"]
    assert all("lm_eval" not in found[name] and "ray" not in found[name] for name in list(found)[:-1])
    assert found["ended by"] == ["lm_eval"]
