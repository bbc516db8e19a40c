"""What may be imported before a command does its work: help, tables and plans must not wait for torch.

One process imports all commands of a group one after another; the first that loads too much is named.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from figure_parts import drawn_sweep, leave_one_method
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


class Budget(NamedTuple):
    """A call of a command that only reads or plans, and what of the heavy modules it may load.

    `work`: of a command that computes, the module that does so, which is imported and not run.
    """

    call: tuple[str, ...] | None = None
    may: tuple[str, ...] = ()
    work: str = ""


TENSORS = ("scipy", "torch", "transformers")
BUDGETS = {
    "init": Budget(("OUT/init",)),
    "new": Budget(("regularizer", "cap", "--dir", "OUT/new")),
    # The driver of replicas in processes of their own.
    "run": Budget(work="workflows.runs.sweep_file"),
    "plan": Budget(("examples/quickstart.yaml", "--root", "OUT/plan")),
    "score": Budget(work="workflows.runs.score"),
    "status": Budget(("ROOT",)),
    "retry": Budget(("ROOT", "--failed")),
    "gc": Budget(("ROOT", "--dry-run")),
    "verify": Budget(("ROOT",)),
    "compact": Budget(("ROOT",)),
    "submit": Budget(work="workflows.cluster.submit"),
    "stop": Budget(work="workflows.cluster.submit"),
    "table": Budget(("ROOT", "--by", "edits")),
    "ability": Budget(("ROOT",)),
    "retention": Budget(("ROOT", "curve")),
    "edits": Budget(("ROOT",)),
    "correlate": Budget(("ROOT", "--resamples", "100")),
    "plot": Budget(("ONE", "scores", "--out", "OUT/scores.svg"), may=("matplotlib",)),
    "compare": Budget(("ROOT", "ROOT")),
    "sql": Budget(("ROOT", "SELECT * FROM trajectories")),
    "report": Budget(("ONE", "--out", "OUT/report.html"), may=("matplotlib",)),
    # What it runs is `report` and `plot`, which are called here.
    "bundle": Budget(work="workflows.results.bundle.make"),
    "track": Budget(work="workflows.results.trackers.send"),
    "doctor": Budget(work="workflows.preflight.model", may=TENSORS),
    "calibrate": Budget(work="workflows.runs.calibrate", may=TENSORS),
    "data": Budget(("factworld",)),
    "order": Budget(work="workflows.runs.order", may=(*TENSORS, "pandas", "sklearn")),
    "moments": Budget(("list", "--store", "OUT/store")),
    "serac": Budget(work="workflows.runs.serac", may=TENSORS),
    "methods": Budget(("memit+sphere",)),
    "tasks": Budget(()),
    "edit": Budget(work="workflows.runs.edit", may=TENSORS),
    "export": Budget(work="workflows.runs.export", may=TENSORS),
    "apply": Budget(work="workflows.runs.export", may=TENSORS),
    "factworld": Budget(work="workflows.runs.factworld", may=TENSORS),
}


def test_every_command_has_a_budget() -> None:
    assert set(BUDGETS) == set(COMMANDS)
    assert [name for name, budget in BUDGETS.items() if (budget.call is None) != bool(budget.work)] == []


# One process for all commands: each call happens in a copy of it, made before it holds anything heavy.
CALLS = """
import duckdb, pyarrow, pydantic
from workflows import cli
ended = {}
for name, *call in json.loads(sys.argv[2]):
    read, write = os.pipe()
    copy = os.fork()
    if not copy:
        os.dup2(write, 1)
        os.dup2(write, 2)
        sys.argv = ["sphere", name, *call]
        try:
            cli.main()
        except SystemExit as end:
            found["code"] = end.code
        except BaseException as error:
            found["code"] = repr(error)
        note("loaded")
        print()
        print(json.dumps(found), flush=True)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as lines:
        ended[name] = lines.read()
    os.waitpid(copy, 0)
found.update(ended)
"""


def test_commands_that_read_load_nothing_heavy_in_a_call(tmp_path: Path) -> None:
    drawn_sweep(tmp_path / "root" / "sweep")
    shutil.copytree(tmp_path / "root", tmp_path / "one")
    leave_one_method(tmp_path / "one" / "sweep")
    reading = {name: budget.call for name, budget in BUDGETS.items() if budget.call is not None}
    calls = [[name, *(_placed(part, tmp_path) for part in call)] for name, call in reading.items()]
    over = {}
    for name, text in loaded_by(CALLS, json.dumps(calls)).items():
        ended = json.loads(text.splitlines()[-1])
        loaded = ended.get("loaded", ended.get("ended by"))
        # 1: `verify` has found damage, for the specifications of that sweep are not whole.
        if ended.get("code") not in (0, 1 if name == "verify" else 0) or set(loaded) - set(BUDGETS[name].may):
            over[name] = text
    assert over == {}


def _placed(part: str, folder: Path) -> str:
    places = {"ROOT": folder / "root" / "sweep", "ONE": folder / "one" / "sweep", "OUT": folder}
    head, *rest = part.split("/", 1)
    return "/".join([str(places.get(head, head)), *rest])


@pytest.fixture(scope="module")
def computing() -> tuple[list[tuple[tuple[str, ...], str]], dict[str, list[str]]]:
    """What may be loaded by each module that computes for a command, and what is, in one process for all.

    Those that need no tensors come first, a replica and its evaluators last: the harness ends the process.
    """
    works = sorted({(budget.may, budget.work) for budget in BUDGETS.values() if budget.work})
    code = (
        "import importlib\nfor name in sys.argv[2:]:\n    importlib.import_module(name)\n    note(name)\n"
        "import workflows.replicas.replica\nnote('replica')\n"
        "from evaluators.registry import build_evaluator, read_evaluator_settings\n"
        "build_evaluator(read_evaluator_settings({'kind': 'edit_quality'}, where='test'))\nnote('edit_quality')\n"
        "build_evaluator(read_evaluator_settings({'kind': 'geometry'}, where='test'))\nnote('geometry')\n"
        "build_evaluator(read_evaluator_settings({'kind': 'general', 'tasks': ['factworld']}, where='test'))\n"
        "note('general')"
    )
    return works, loaded_by(code, *(work for _, work in works))


def test_commands_that_compute_load_what_they_compute_with(
    computing: tuple[list[tuple[tuple[str, ...], str]], dict[str, list[str]]],
) -> None:
    works, loaded = computing
    assert {work: loaded.get(work) for may, work in works if set(loaded.get(work, HEAVY)) - set(may)} == {}


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


def test_a_replica_loads_the_harness_only_when_it_scores_with_it(
    computing: tuple[list[tuple[tuple[str, ...], str]], dict[str, list[str]]],
) -> None:
    works, found = computing
    assert list(found)[len(works) :] == ["replica", "edit_quality", "geometry", "ended by"]
    assert all("lm_eval" not in found[name] and "ray" not in found[name] for name in list(found)[:-1])
    assert found["ended by"] == ["lm_eval"]
