"""`python -m benchmarks.many_trajectories`: what 10,000 trajectories cost the commands that only look at files.

Writes a sweep file of many trajectories and the files they would leave (half of them finished, a few failed, some
under way), without editing anything, and times `sphere plan`, `sphere status` and the driver's backlog on them.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console

from benchmarks.rows import Row, table
from evaluators.base import Score
from sphere_core.checkpoint_files import MANIFEST, STATE, WEIGHTS, Manifest, checkpoint_folder
from sphere_core.foundation.storage import Storage
from workflows.driver.backlog import Backlog
from workflows.replicas.row_writer import encode_rows
from workflows.replicas.scoring import shared_columns
from workflows.replicas.tasks import MomentsTask, ScoreTask
from workflows.store.layout import PLAN_FILE, checkpoint_path, checkpoints_folder, error_path, lease_path, progress_path
from workflows.store.plan import TrajectoryPlan
from workflows.store.state import derive_state
from workflows.sweeps.expand import Sweep, load_sweep

__all__ = ["main", "many_settings", "write_files"]

METHODS = ("memit", "memit+sphere", "memit+rect", "memit+revive", "alphaedit", "alphaedit+sphere", "alphaedit+revive")
LIMIT_SECONDS = 10.0
CHECKPOINTS = 4


def many_settings(count: int) -> dict[str, Any]:
    """Return a sweep of `count` trajectories or a few more: the methods above, five streams, seeds."""
    streams = [{"dataset": "factworld", "edits": 40 + 4 * i, "order": "shuffled"} for i in range(5)]
    return {
        "name": "many",
        "models": ["factworld"],
        "streams": streams,
        "methods": list(METHODS),
        "seeds": list(range(-(-count // (len(METHODS) * len(streams))))),
        "batch_size": 2,
        "checkpoint_every": 14,
        "moments": {"corpus": "factworld", "sentences": 600},
        "evaluators": {"edit_quality": {}, "general": {"tasks": ["factworld"]}, "geometry": {}},
    }


def write_files(sweep: Sweep, root: Path) -> int:
    """Write what a half-finished run of the sweep leaves below `root` and return how many files that is.

    Every second trajectory is finished, every tenth under way, every fiftieth failed; checkpoints are empty files with
    real manifests, scores real row files.
    """
    (root / "rows").mkdir(parents=True)
    (root / PLAN_FILE).write_text(sweep.plan.model_dump_json(), encoding="utf-8")
    rows = _row_bytes(sweep)
    written = 1
    for kind in rows:
        (root / "rows" / kind).mkdir()
    for base in sweep.plan.bases:
        (root / base.rows_path).write_bytes(rows[base.evaluation.kind])
        written += 1
    for place, plan in enumerate(sweep.plan.trajectories):
        written += _write_trajectory(plan, root, place, rows)
    return written


def _write_trajectory(plan: TrajectoryPlan, root: Path, place: int, rows: dict[str, bytes]) -> int:
    folder = root / checkpoints_folder(plan.id)
    folder.mkdir(parents=True)
    files: dict[str, bytes] = {"trajectories/" + plan.id + "/spec.json": b"{}"}
    finished, running, failed = place % 2 == 0, place % 10 == 1, place % 50 == 3
    if not (finished or running or failed):
        return _write_all(root, files)
    done = plan.wanted if finished else plan.wanted[: len(plan.wanted) // 2]
    for edits in done:
        (root / checkpoints_folder(plan.id) / checkpoint_folder(edits)).mkdir()
        tensors = dict.fromkeys((WEIGHTS, STATE), "0" * 64)
        manifest = Manifest(plan.id, edits, collapsed=False, contexts=(("{}",) * 20,), scalars={}, files=tensors)
        files |= {checkpoint_path(plan.id, edits, name): b"" for name in tensors}
        files[checkpoint_path(plan.id, edits, MANIFEST)] = manifest.encode()
        files |= {plan.rows_path(edits, evaluation): rows[evaluation.kind] for evaluation in plan.evaluations}
    state = "edited" if finished else "running"
    progress = {"state": state, "edits": done[-1], "of": plan.edits, "edits_per_second": 2.0, "at": time.time()}
    files[progress_path(plan.id)] = json.dumps(progress).encode()
    files[lease_path(plan.id)] = json.dumps({"attempt": 1, "owner": "node:1"}).encode()
    if failed:
        files[error_path(plan.id)] = json.dumps({"task": plan.id, "error": "E", "message": "m", "edits": 3}).encode()
    return _write_all(root, files)


def _write_all(root: Path, files: dict[str, bytes]) -> int:
    for path, data in files.items():
        (root / path).write_bytes(data)
    return len(files)


def _row_bytes(sweep: Sweep) -> dict[str, bytes]:
    """Return a row file of each kind; what it says is the same for all trajectories here."""
    plan = sweep.plan.trajectories[0]
    score = Score("score", "argmax", 0.5, None, 10, 0, 0, "ok", True, None, None)
    return {
        evaluation.kind: encode_rows(
            shared_columns(ScoreTask(plan, sweep.specs[plan.id], plan.wanted[0], evaluation, {}), "w"), [score] * 12
        )
        for evaluation in plan.evaluations
    }


@contextmanager
def _timed(rows: list[Row], what: str, setting: str, limit: float | None) -> Iterator[None]:
    start = time.perf_counter()
    yield
    rows.append(Row(what, setting, time.perf_counter() - start, "s", limit))


def _command(*arguments: object) -> None:
    repository = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-m", "workflows.cli", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=repository)


def measure(count: int, folder: Path, *, commands: bool = True) -> list[Row]:
    """Time everything on `count` trajectories' files below `folder`, the commands as processes of their own."""
    path, root = folder / "sweep.yaml", folder / "root"
    path.write_text(yaml.safe_dump(many_settings(count)), encoding="utf-8")
    rows: list[Row] = []
    with _timed(rows, "reading and expanding the sweep file", f"{count} trajectories", None):
        sweep = load_sweep(path)
    setting = f"{len(sweep.plan.trajectories)} trajectories, {write_files(sweep, root)} files"
    storage = Storage(root)
    if commands:
        with _timed(rows, "sphere plan --help", "the least plan can take", None):
            _command("plan", "--help")
        with _timed(rows, "sphere plan", setting, LIMIT_SECONDS):
            _command("plan", path, "--root", root)
        with _timed(rows, "sphere status", setting, LIMIT_SECONDS):
            _command("status", root)
    with _timed(rows, "state from files", setting, None):
        derive_state(storage, sweep.plan)
    with _timed(rows, "backlog from files", setting, LIMIT_SECONDS):
        backlog = Backlog.from_files(sweep, storage)
    while isinstance(task := backlog.take(["moments"], None), MomentsTask):
        backlog.moments_done(task)
    open_tasks = sum(backlog.waiting().values())
    with _timed(rows, "handing out every open task, counting after each", f"{open_tasks} tasks", LIMIT_SECONDS):
        while backlog.take(["score", "trajectory"], sweep.plan.trajectories[0].model_digest) is not None:
            backlog.counts()
            backlog.waiting()
    return rows


def main(
    count: Annotated[int, typer.Option(min=1, help="How many trajectories")] = 10_000,
    folder: Annotated[Path | None, typer.Option(help="Where to write; default: a temporary folder, removed")] = None,
) -> None:
    """Time plan, status and backlog on many trajectories; exits 1 where one takes too long."""
    place = Path(tempfile.mkdtemp(dir=folder))
    try:
        rows = measure(count, place)
    finally:
        shutil.rmtree(place)
    Console(width=160).print(table(rows, title="many trajectories, files only"))
    if any(row.met is False for row in rows):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
