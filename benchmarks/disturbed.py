"""A sweep on a cluster of three nodes on this machine, and the means to kill every part of it while it runs."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import yaml

from workflows.cluster.environment import prepare_cluster_environment

__all__ = ["INTERVAL", "DisturbedSweep", "Kind", "run_undisturbed", "sweep_settings"]

REPOSITORY = Path(__file__).resolve().parent.parent
INTERVAL = 4
Kind = Literal["replica", "evaluator", "node", "driver"]
_SMALL = {"object_store_memory": 80 << 20}
_NODES = 3


def sweep_settings(name: str, trajectories: int, *, edits: int) -> dict[str, Any]:
    """Return a sweep of at least that many trajectories on the fact world, with a checkpoint every `INTERVAL` edits."""
    methods = ["memit", "alphaedit+sphere", "memit+rect"]
    return {
        "name": name,
        "models": ["factworld"],
        "streams": [{"dataset": "factworld", "edits": edits, "order": "shuffled"}],
        "methods": methods,
        "seeds": list(range(-(-trajectories // len(methods)))),
        "batch_size": 2,
        "checkpoint_every": INTERVAL,
        "moments": {"corpus": "factworld", "sentences": 600},
        "contexts": {"seeds": ["The"], "length": 6, "top_k": 5},
        "evaluators": {"edit_quality": {}, "geometry": {}},
        "resources": {"threads": 1, "replica": {"num_cpus": 1}, "evaluator": {"replicas": 1}},
    }


def run_undisturbed(folder: Path, settings: dict[str, Any], *options: str) -> Path:
    """Write a sweep file below `folder`, run it to `folder / "alone"` with nothing happening to it; return the file."""
    sweep = folder / "sweep.yaml"
    sweep.write_text(yaml.safe_dump(settings), encoding="utf-8")
    command = _sphere_run(sweep, folder / "alone", *options)
    subprocess.run(command, check=True, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    return sweep


class DisturbedSweep:
    """A head, three nodes and a driver. `kills` counts what was killed. A context manager: all ends with it."""

    def __init__(self, sweep: Path, root: Path, choice: random.Random) -> None:
        """`choice` draws the victims; what the driver says goes to `driver.log` beside the root."""
        prepare_cluster_environment()
        from ray.cluster_utils import Cluster  # reads the environment prepared above, once

        self._sweep, self._root, self._choice = sweep, root, choice
        self.log = root.parent / "driver.log"
        # Where the driver may leave temporary files.
        self.scratch = root.parent / "driver-tmp"
        self.scratch.mkdir()
        self.kills: Counter[Kind] = Counter()
        self._killed_at: set[tuple[str, int]] = set()
        self._rows_at_kill = 0
        self._temp = tempfile.mkdtemp(prefix="nodes-")
        self._cluster: Any = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "include_dashboard": False, "temp_dir": self._temp, **_SMALL},
        )
        self._nodes = [self._add_node() for _ in range(_NODES)]
        self.driver = self._start_driver()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.driver.poll() is None:
            self.driver.kill()
            self.driver.wait()
        self._cluster.shutdown()
        shutil.rmtree(self._temp, ignore_errors=True)

    def is_editing(self) -> bool:
        """Return whether any replica holds a trajectory."""
        return bool(self._workers()[0])

    def kill(self, kind: Kind) -> bool:
        """Kill one of a kind; return False if there is none whose death would be informative."""
        replicas, evaluators = self._workers()
        if kind == "driver":
            self.driver.kill()
            self.driver.wait()
            self.driver = self._start_driver()
        elif kind == "node":
            victim = self._nodes.pop(self._choice.randrange(len(self._nodes)))
            self._cluster.remove_node(victim, allow_graceful=False)
            self._nodes.append(self._add_node())
        elif not (self._kill_evaluator(evaluators) if kind == "evaluator" else self._kill_replica(replicas)):
            return False
        self.kills[kind] += 1
        self._rows_at_kill = self._rows()
        return True

    def _kill_evaluator(self, evaluators: set[int]) -> bool:
        # What is killed three times in the same score counts as that score's own fault, and rightly fails it.
        if not evaluators or self._rows() == self._rows_at_kill:
            return False
        os.kill(self._choice.choice(sorted(evaluators)), signal.SIGKILL)
        return True

    def _rows(self) -> int:
        return len(list(self._root.glob("rows/*/*.parquet")))

    def _kill_replica(self, replicas: dict[int, str]) -> bool:
        # The third loss between two checkpoints counts as the trajectory's own fault, and rightly fails it.
        places = {process: self._place(trajectory) for process, trajectory in replicas.items()}
        victims = sorted(process for process, place in places.items() if place not in self._killed_at)
        if not victims:
            return False
        victim = self._choice.choice(victims)
        self._killed_at.add(places[victim])
        os.kill(victim, signal.SIGKILL)
        return True

    def _start_driver(self) -> subprocess.Popen[bytes]:
        command = _sphere_run(self._sweep, self._root, "--address", self._cluster.address)
        environment = {**os.environ, "TMPDIR": str(self.scratch)}
        with self.log.open("ab") as log:
            return subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=log, stderr=log)

    def _add_node(self) -> Any:
        return self._cluster.add_node(num_cpus=2, **_SMALL)

    def _place(self, trajectory: str) -> tuple[str, int]:
        """Return a trajectory and its number of published checkpoints."""
        return trajectory, len(list(self._root.glob(f"trajectories/{trajectory}/checkpoints/*/manifest.json")))

    def _workers(self) -> tuple[dict[int, str], set[int]]:
        """Return the replicas that hold a lease, by process, with its trajectory; and the evaluators."""
        titles = {int(entry.name): _title(entry) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
        ours = {
            process: title for process, title in titles.items() if title.startswith("ray::") and _is_below_us(process)
        }
        evaluators = {process for process, title in ours.items() if title.startswith("ray::Evaluator")}
        owners: dict[int, str] = {}
        # A replica edits one trajectory after another: its own is the one whose lease is newest.
        for path in sorted(self._root.glob("trajectories/*/lease.json"), key=lambda path: path.stat().st_mtime_ns):
            owners[int(json.loads(path.read_bytes())["owner"].rpartition(":")[2])] = path.parent.name
        replicas = {process for process, title in ours.items() if title.startswith("ray::Replica")}
        return {process: owners[process] for process in replicas & owners.keys()}, evaluators


def _sphere_run(sweep: Path, root: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "workflows.cli", "run", str(sweep), "--root", str(root), *options]


def _title(entry: Path) -> str:
    try:
        return (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _is_below_us(process: int) -> bool:
    """Return whether a process was started by this one, or by one of its children."""
    try:
        while process > 1:
            if process == os.getpid():
                return True
            process = int(Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    except OSError:
        pass
    return False
