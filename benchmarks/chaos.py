"""`python -m benchmarks.chaos`: a sweep on three nodes under random kills, against the same sweep left alone.

From a fixed seed, processes are ended with SIGKILL while the sweep runs: replicas, evaluators, one node with all on it,
and once the driver, which is then started again. At the end every file of rows and checkpoints must be byte-equal to
those of one replica that nothing happened to, and no kill may have cost more edits than lie between two checkpoints.
"""

import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console

from workflows.ray_environment import prepare_cluster_environment

__all__ = ["Chaos", "Report", "chaos_settings", "main"]

REPOSITORY = Path(__file__).resolve().parent.parent
KINDS = ("replica", "replica", "evaluator", "replica", "node", "replica", "evaluator", "driver")
INTERVAL = 4


def chaos_settings(trajectories: int) -> dict[str, Any]:
    """Return a sweep of so many short trajectories on the fact world."""
    methods = ["memit", "alphaedit+sphere", "memit+rect"]
    return {
        "name": "chaos",
        "models": ["factworld"],
        "streams": [{"dataset": "factworld", "edits": 16, "order": "shuffled"}],
        "methods": methods,
        "seeds": list(range(-(-trajectories // len(methods)))),
        "batch_size": 2,
        "checkpoint_every": INTERVAL,
        "moments": {"corpus": "factworld", "sentences": 600},
        "contexts": {"seeds": ["The"], "length": 6, "top_k": 5},
        "evaluators": {"edit_quality": {}, "geometry": {}},
        "resources": {"threads": 1, "replica": {"num_cpus": 1}, "evaluator": {"replicas": 1}},
    }


@dataclass
class Report:
    """What a run under kills came to."""

    seconds: float = 0.0
    exit_code: int | None = None
    kills: Counter[str] = field(default_factory=Counter)
    different: list[str] = field(default_factory=list)
    attempts: int = 0
    redone: int = 0
    worst_redone: int = 0

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost, and no more was done again than a kill may cost."""
        return self.exit_code == 0 and not self.different and self.worst_redone <= INTERVAL


class Chaos:
    """A three-node cluster on this machine, a driver on it, and somebody who kills."""

    def __init__(self, sweep: Path, root: Path, *, seed: int, period: float) -> None:
        prepare_cluster_environment()
        from ray.cluster_utils import Cluster  # reads the environment prepared above, once

        self._sweep, self._root, self._period = sweep, root, period
        self._choice = random.Random(seed)
        self._temp = tempfile.mkdtemp(prefix="chaos-")
        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "include_dashboard": False, "temp_dir": self._temp, **_SMALL},
        )
        self._nodes = [self._cluster.add_node(num_cpus=2, **_SMALL) for _ in range(3)]
        self._driver: subprocess.Popen[bytes] | None = None
        self._killed_at: set[tuple[str, int]] = set()
        self.report = Report()

    def run(self, *, limit_seconds: float) -> Report:
        """Run the sweep to its end under kills and close the cluster."""
        started = time.monotonic()
        todo = list(KINDS)
        self._choice.shuffle(todo)
        try:
            self._start_driver()
            due = time.monotonic() + self._period
            while (code := self._code()) is None and time.monotonic() - started < limit_seconds:
                time.sleep(0.05)
                if time.monotonic() >= due and self._replicas()[0]:
                    kind = todo.pop() if todo else self._choice.choice(["replica", "replica", "evaluator"])
                    self._kill(kind)
                    due = time.monotonic() + self._period * self._choice.uniform(0.5, 1.5)
            self.report.exit_code = code
            self.report.seconds = time.monotonic() - started
        finally:
            self._close()
        self._count_redone()
        return self.report

    def _start_driver(self) -> None:
        command = [sys.executable, "-m", "workflows.cli", "run", str(self._sweep), "--root", str(self._root)]
        log = (self._root.parent / "driver.log").open("ab")
        with log:
            self._driver = subprocess.Popen(
                [*command, "--address", self._cluster.address], cwd=REPOSITORY, stdout=log, stderr=log
            )

    def _code(self) -> int | None:
        return None if self._driver is None else self._driver.poll()

    def _kill(self, kind: str) -> None:
        replicas, evaluators = self._replicas()
        if kind == "driver" and self._driver is not None:
            self._driver.kill()
            self._driver.wait()
            self._start_driver()
        elif kind == "node":
            victim = self._nodes.pop(self._choice.randrange(len(self._nodes)))
            self._cluster.remove_node(victim, allow_graceful=False)
            self._nodes.append(self._cluster.add_node(num_cpus=2, **_SMALL))
        elif kind == "evaluator" and evaluators:
            os.kill(self._choice.choice(sorted(evaluators)), signal.SIGKILL)
        else:
            # The third loss between two checkpoints counts as the trajectory's own fault, and rightly fails it.
            places = {process: self._place(trajectory) for process, trajectory in replicas.items()}
            victims = sorted(process for process, place in places.items() if place not in self._killed_at)
            if not victims:
                return
            victim = self._choice.choice(victims)
            self._killed_at.add(places[victim])
            os.kill(victim, signal.SIGKILL)
        self.report.kills[kind] += 1

    def _place(self, trajectory: str) -> tuple[str, int]:
        """Return a trajectory and how many checkpoints of it stand."""
        return trajectory, len(list(self._root.glob(f"trajectories/{trajectory}/checkpoints/*/manifest.json")))

    def _replicas(self) -> tuple[dict[int, str], set[int]]:
        """Return the processes that hold a lease, with its trajectory, and the other workers."""
        workers = {
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and _title(entry).startswith("ray::Replica") and self._is_ours(int(entry.name))
        }
        owners: dict[int, str] = {}
        # A replica edits one trajectory after another: its own is the one whose lease is newest.
        for path in sorted(self._root.glob("trajectories/*/lease.json"), key=lambda path: path.stat().st_mtime_ns):
            owners[int(json.loads(path.read_bytes())["owner"].rpartition(":")[2])] = path.parent.name
        return {key: owners[key] for key in workers & owners.keys()}, workers - owners.keys()

    def _is_ours(self, process: int) -> bool:
        """Tell whether a worker belongs to this cluster, which this process has started."""
        try:
            return _below(process, os.getpid())
        except OSError:
            return False

    def _close(self) -> None:
        if self._driver is not None and self._driver.poll() is None:
            self._driver.kill()
            self._driver.wait()
        self._cluster.shutdown()
        shutil.rmtree(self._temp, ignore_errors=True)

    def _count_redone(self) -> None:
        """Add up, over attempts after the first, how far the attempt before had said it was beyond their beginning."""
        for path in self._root.glob("trajectories/*/attempts/*.json"):
            record = json.loads(path.read_bytes())
            again = record["before"] - record["from"]
            self.report.attempts += 1
            self.report.redone += again
            self.report.worst_redone = max(self.report.worst_redone, again)


_SMALL = {"object_store_memory": 80 << 20}


def _title(entry: Path) -> str:
    try:
        return (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _below(process: int, ancestor: int) -> bool:
    while process > 1:
        if process == ancestor:
            return True
        process = int(Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    return False


def results(root: Path) -> dict[str, bytes]:
    """Return all rows and checkpoints below a root, by name."""
    files = [*root.glob("rows/*/*.parquet"), *root.glob("trajectories/*/checkpoints/*/*")]
    return {str(path.relative_to(root)): path.read_bytes() for path in files if not path.name.startswith(".")}


def under_chaos(folder: Path, *, trajectories: int, seed: int, period: float, limit_seconds: float = 1500.0) -> Report:
    """Run a sweep alone and under kills below `folder`, and compare."""
    sweep = folder / "sweep.yaml"
    sweep.write_text(yaml.safe_dump(chaos_settings(trajectories)), encoding="utf-8")
    alone = [sys.executable, "-m", "workflows.cli", "run", str(sweep), "--local", "--root", str(folder / "alone")]
    subprocess.run(alone, check=True, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    report = Chaos(sweep, folder / "root", seed=seed, period=period).run(limit_seconds=limit_seconds)
    expected, found = results(folder / "alone"), results(folder / "root")
    report.different = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    return report


def main(
    seed: Annotated[list[int] | None, typer.Option(help="Seed of the kills; may be given more than once")] = None,
    trajectories: Annotated[int, typer.Option(min=3, help="How many trajectories")] = 24,
    period: Annotated[float, typer.Option(help="Seconds between two kills, on average")] = 4.0,
) -> None:
    """Run the sweep under kills, once a seed; exits 1 where anything was lost or differs."""
    # Workers of the cluster and the driver share it; Ray would write one into the home folder.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    console = Console()
    good = True
    for one in seed or [0, 1, 2]:
        with tempfile.TemporaryDirectory() as folder:
            report = under_chaos(Path(folder), trajectories=trajectories, seed=one, period=period)
            if not report.is_good:
                console.out((Path(folder) / "driver.log").read_text(encoding="utf-8")[-4000:], highlight=False)
        kills = ", ".join(f"{count} {kind}" for kind, count in sorted(report.kills.items()))
        console.print(
            f"seed {one}: exit code {report.exit_code} after {report.seconds:.0f} s; killed {kills}; "
            f"{report.attempts} attempts, {report.redone} edits again, at most {report.worst_redone} at a time "
            f"(interval {INTERVAL}); {len(report.different)} files differ {report.different[:4]}",
            highlight=False,
            soft_wrap=True,
        )
        good = good and report.is_good
    raise typer.Exit(0 if good else 1)


if __name__ == "__main__":
    typer.run(main)
