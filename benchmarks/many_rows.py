"""`python -m benchmarks.many_rows`: what ten million rows in ten thousand row files cost the main table.

Generates a sweep's plan, manifests and row files in the real schema, without editing anything, and times
`sphere table` in processes of its own: from the row files, and after `sphere compact`. Processor time, peak memory.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.generated_sweep import put_checkpoint, subject, trajectory
from evaluators.base import Score
from sphere_core.foundation.parquet import parquet_table
from sphere_core.foundation.storage import Storage
from workflows.replicas.row_writer import encode_row_table, encode_rows
from workflows.store.layout import PLAN_FILE, spec_path
from workflows.store.plan import BasePlan, Evaluation, SweepPlan, TrajectoryPlan

__all__ = ["main", "timed_table", "write_sweep"]

EVALUATION = Evaluation(kind="general", id="a" * 12)
# Of the whole command, interpreter and imports with it.
LIMIT_COMPACTED_SECONDS, LIMIT_COMPACTED_BYTES, LIMIT_FILES_SECONDS = 5.0, 2 << 30, 10.0


def write_sweep(root: Path, *, trajectories: int, checkpoints: int, rows_per_file: int) -> int:
    """Write a finished sweep of these sizes and return how many rows it has."""
    storage = Storage(root)
    edits = tuple(100 * place for place in range(1, checkpoints + 1))
    plans = [trajectory(place, edits, (EVALUATION,)) for place in range(trajectories)]
    base = BasePlan(
        model="m",
        model_digest="d" * 64,
        dtype="float32",
        layers=(),
        dataset=None,
        order=None,
        seed=None,
        stream_digest=None,
        evaluation=EVALUATION.model_copy(update={"id": "b" * 12}),
        trajectory=plans[0].id,
    )
    pattern = _pattern(plans[0], rows_per_file)
    generator = np.random.default_rng(0)
    _write_rows(storage, base.rows_path, pattern, None, 0, generator)
    for plan in plans:
        storage.write_bytes(spec_path(plan.id), b'{"hyperparameters": {"layers": [3, 4]}}')
        for count in edits:
            _write_rows(storage, plan.rows_path(count, EVALUATION), pattern, plan, count, generator)
            put_checkpoint(storage, plan, count)
    sweep = SweepPlan(name="many", trajectories=tuple(plans), bases=(base,), recipes=())
    storage.write_bytes(PLAN_FILE, sweep.model_dump_json().encode())
    return rows_per_file * (1 + trajectories * checkpoints)


def _pattern(plan: TrajectoryPlan, rows: int) -> pa.Table:
    """Return one file's rows as the evaluator would write them: a mean over tasks, then metrics of many tasks."""
    names = [("general_mean", "suite")]
    names += [(("acc", "acc_norm", "f1", "empty_share")[i % 4], f"task_{i // 4}") for i in range(rows - 1)]
    scores = [Score(metric, "lm_eval-1", 0.5, 0.01, 100, 0, 0, "ok", True, None, task) for metric, task in names]
    return parquet_table(encode_rows(subject(plan, 0, EVALUATION), scores))


def _write_rows(
    storage: Storage,
    path: str,
    pattern: pa.Table,
    plan: TrajectoryPlan | None,
    edits: int,
    generator: np.random.Generator,
) -> None:
    count = pattern.num_rows
    own = {
        "trajectory_id": pa.repeat(pa.scalar(plan.id if plan else None, pa.string()), count),
        "method": pa.repeat(pa.scalar(plan.method if plan else None, pa.string()), count),
        "seed": pa.repeat(pa.scalar(plan.seed if plan else None, pa.int64()), count),
        "edits": pa.repeat(pa.scalar(edits, pa.int64()), count),
        "evaluation_id": pa.repeat(pa.scalar(EVALUATION.id if plan else "b" * 12), count),
        "value": pa.array(generator.random(count)),
    }
    table = pa.table([own.get(name, pattern[name]) for name in pattern.column_names], names=pattern.column_names)
    storage.write_bytes(path, encode_row_table(table))


def timed_table(root: Path, *words: str) -> tuple[float, int, str]:
    """Run `sphere table` and return its processor seconds, its peak memory in bytes, and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", _MEASURED, "table", str(root), *words]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    peak = json.loads(done.stderr.splitlines()[-1])["kilobytes"]
    return seconds, 1024 * int(peak), done.stdout


# The peak since this program began: what getrusage says holds the process it was started from as well.
_MEASURED = """
import json, re, sys
from pathlib import Path
from workflows.cli import main
try:
    main()
finally:
    peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]
    print(json.dumps({"kilobytes": int(peak)}), file=sys.stderr)
"""


def main(
    trajectories: Annotated[int, typer.Option(min=1, help="Finished trajectories")] = 500,
    checkpoints: Annotated[int, typer.Option(min=1, help="Row files of each")] = 20,
    rows: Annotated[int, typer.Option(min=1, help="Rows of each file")] = 1000,
) -> None:
    """Generate rows, and time the main table before and after compaction; exits 1 where a limit is passed."""
    shown = Table("table from", "files", "rows", "processor s", "peak GB", "limit")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "many"
        count = write_sweep(root, trajectories=trajectories, checkpoints=checkpoints, rows_per_file=rows)
        before = timed_table(root)
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
        command = [sys.executable, "-m", "workflows.cli", "compact", str(root)]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        after = timed_table(root)
    files = trajectories * checkpoints
    for name, opened, (seconds, peak, _), limit in (
        ("row files", files, before, f"{LIMIT_FILES_SECONDS:.0f} s"),
        ("compacted", trajectories, after, f"{LIMIT_COMPACTED_SECONDS:.0f} s, 2 GB"),
    ):
        shown.add_row(name, str(opened), f"{count:,}", f"{seconds:.1f}", f"{peak / 1e9:.2f}", limit)
    Console().print(shown)
    same = before[2] == after[2]
    met = before[0] <= LIMIT_FILES_SECONDS and after[0] <= LIMIT_COMPACTED_SECONDS and after[1] <= LIMIT_COMPACTED_BYTES
    if not (same and met):
        Console().print("a limit is passed" if same else "the two tables differ")
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
