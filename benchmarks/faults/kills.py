"""Processes of a run killed at random times, and a replica that is stopped while its work is given away."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.equal_bytes import differing, results
from benchmarks.faults.trial import Trial, run_here
from sphere_core.foundation.storage import Storage
from workflows.driver.local_executor import LocalExecutor
from workflows.replicas.tasks import Done, TrajectoryTask
from workflows.store.state import derive_state
from workflows.sweeps.expand import load_sweep

__all__ = ["killed_processes", "stopped_replica"]

REPOSITORY = Path(__file__).resolve().parent.parent.parent
_MOST_SECONDS = 900.0
# The beginning of a process's title or name, and the exit code of the run that loses it.
VICTIMS = {
    "driver": ("", -signal.SIGKILL),
    "replica": ("ray::Replica", 0),
    "evaluator": ("ray::Evaluator", 0),
    "raylet": ("raylet", 1),
    "head": ("gcs_server", 1),
}
STOPPED = """
import os, signal, sys
from pathlib import Path
from workflows.sweeps.expand import load_sweep
from workflows.replicas.replica import ModelReplica
from workflows.replicas.tasks import TrajectoryTask

sweep, at = load_sweep(Path(sys.argv[1])), int(sys.argv[3])
plan, seen = sweep.plan.trajectories[0], []

def stop(progress):
    seen.append(progress.signs)
    if len(seen) == at:
        os.kill(os.getpid(), signal.SIGSTOP)

replica = ModelReplica(sys.argv[2], threads=1, device="cpu", listener=stop, on_sign=stop)
outcome = replica.run(TrajectoryTask(plan, sweep.specs[plan.id], 1, None))
print(type(outcome).__name__)
"""


def killed_processes(sweep: Path, alone: Path, folder: Path, *, victim: str, choice: random.Random) -> Trial:
    """Run the sweep on a Ray of its own, kill one process at a random time, run it again, and compare with `alone`."""
    root, log = folder / f"killed-{victim}", folder / f"killed-{victim}.log"
    prefix, code = VICTIMS[victim]
    command = [sys.executable, "-m", "workflows.cli", "run", str(sweep), "--root", str(root), "--num-cpus", "2"]
    with log.open("wb") as out:
        run = subprocess.Popen(command, cwd=REPOSITORY, stdout=out, stderr=out, start_new_session=True)
    below: list[psutil.Process] = []
    until, killed = time.monotonic() + _MOST_SECONDS, False
    # From the first record of progress on, after a random number of looks.
    looks = choice.randrange(1, 20)
    while run.poll() is None and time.monotonic() < until and not killed:
        time.sleep(0.1)
        if looks > 0:
            looks -= bool(list(root.glob("trajectories/*/progress.json")))
            continue
        below = psutil.Process(run.pid).children(recursive=True)
        found = [one for one in below if _title(one).startswith(prefix)] if prefix else [psutil.Process(run.pid)]
        if found:
            choice.choice(found).kill()
            killed = True
    ended = _wait(run, until)
    wrong = [] if killed else ["nothing was killed"]
    state = derive_state(Storage(root), load_sweep(sweep).plan)
    # A run may end before it notices that its head is gone: then all of it is done.
    in_time = ended == 0 and state.is_complete
    wrong += [f"exit code {ended}, not {code}"] if killed and ended != code and not in_time else []
    wrong += ["a traceback"] if b"Traceback" in log.read_bytes() else []
    wrong += [f"{len(left)} processes stay"] if (left := _left(below)) else []
    wrong += [f"marked as failed: {state.failures[0].task}"] if state.failures else []
    again = run_here(sweep, root)
    wrong += [f"exit code {again} of the next run"] if again else []
    wrong += [f"differs: {name}" for name in differing(alone, root)[:2]]
    return Trial("killed", f"{victim}", "; ".join(wrong))


def _title(process: psutil.Process) -> str:
    try:
        return str(process.name()) if process.name() in ("raylet", "gcs_server") else " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _wait(run: "subprocess.Popen[bytes]", until: float) -> int | None:
    try:
        return run.wait(timeout=max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        run.kill()
        run.wait()
        return None


def _left(below: list[psutil.Process]) -> list[psutil.Process]:
    """Return those that still live a minute later."""
    _, alive = psutil.wait_procs(below, timeout=75)
    return list(alive)


def stopped_replica(sweep: Path, alone: Path, folder: Path, *, choice: random.Random) -> Iterator[Trial]:
    """Stop a replica (SIGSTOP) at a random report, have another do its work, let it continue: it writes nothing."""
    at = choice.randrange(2, 8)
    root = Path(tempfile.mkdtemp(dir=folder))
    loaded = load_sweep(sweep)
    plan = loaded.plan.trajectories[0]
    # Second moments are there before the trajectory begins.
    for path in (alone / "moments").iterdir():
        (root / "moments").mkdir(exist_ok=True)
        (root / "moments" / path.name).write_bytes(path.read_bytes())
    command = [sys.executable, "-c", STOPPED, str(sweep), str(root), str(at)]
    first = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    try:
        _, status = os.waitpid(first.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            yield Trial("stopped replica", f"at report {at}", "it was never stopped")
            return
        executor = LocalExecutor(str(root), threads=1, device="cpu")
        worker = executor.start("replica")
        executor.assign(worker, TrajectoryTask(plan, loaded.specs[plan.id], 2, None))
        events = executor.wait(0.0)
        wrong = [] if any(isinstance(getattr(one, "outcome", None), Done) for one in events) else ["not taken over"]
        before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
        os.kill(first.pid, signal.SIGCONT)
        said, _ = first.communicate()
        after = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    finally:
        first.kill()
        first.wait()
    wrong += [] if said.strip() == "Superseded" else [f"it ended as {said.strip()}"]
    wrong += [f"it wrote {path.name}" for path in after if before.get(path) != after[path]][:2]
    mine = {name: digest for name, digest in results(root).items() if plan.id in name}
    expected = {name: digest for name, digest in results(alone).items() if plan.id in name and "/checkpoints/" in name}
    wrong += [] if mine == expected else ["other bytes"]
    yield Trial("stopped replica", f"at report {at}", "; ".join(wrong))
