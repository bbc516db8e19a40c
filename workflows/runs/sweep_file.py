"""A sweep by its file: planned, or run to its end."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from workflows.results.sweep_directory import SweepDirectory, open_sweep
from workflows.runs.sweep import RunOptions, run_sweep
from workflows.store.plan import SweepPlan
from workflows.sweeps.expand import load_sweep

__all__ = ["EndedRun", "plan_sweep", "run_sweep_file"]


@dataclass(frozen=True)
class EndedRun:
    """How a run ended: its exit code (0 all done, 1 something failed, 130 stopped) and its root."""

    exit_code: int
    root: str

    @property
    def directory(self) -> SweepDirectory:
        """The sweep's rows and tables."""
        return open_sweep(root=self.root)


def plan_sweep(*, sweep: str | Path, overrides: Sequence[str] = (), trust_task_code: bool = False) -> SweepPlan:
    """Check a sweep file and all it names, and return its trajectories; writes nothing, raises InputError.

    `overrides` are texts `PATH=VALUE`, as of `--set`, that replace values of the file. `trust_task_code` lets task
    files name Python, as `run_sweep_file` does; here none of it is run.
    """
    return load_sweep(Path(sweep), overrides, trust_task_code=trust_task_code).plan


def run_sweep_file(
    *,
    sweep: str | Path,
    root: str | None = None,
    address: str | None = None,
    local: bool = False,
    num_cpus: int | None = None,
    retry_failed: bool = False,
    steal: bool = False,
    fresh: Sequence[str] = (),
    replace: bool = False,
    overrides: Sequence[str] = (),
    trust_task_code: bool = False,
    console: Console | None = None,
    problems: Console | None = None,
) -> EndedRun:
    """Edit and score what is left of a sweep below `root` (default: runs/NAME) and print its table.

    `local` runs in this process, `address` attaches to a Ray cluster, otherwise Ray is started here. `retry_failed`
    runs again what failed before, `steal` takes the sweep over from a driver that hangs, `fresh` names methods whose
    checkpoints and rows are deleted and computed again, `replace` takes a root that holds another sweep (what is
    stored stays), `overrides` (`PATH=VALUE`) replace values of the file, `trust_task_code` runs Python that task files
    name. `problems` gets failures and warnings, if given. A second call resumes, and does nothing when all is done.
    Raises InputError before anything is written, StorageError if storage fails.
    """
    loaded = load_sweep(Path(sweep), overrides, trust_task_code=trust_task_code, run_code=trust_task_code)
    options = RunOptions(
        root=root or loaded.default_root,
        address=address,
        local=local,
        num_cpus=num_cpus,
        retry_failed=retry_failed,
        steal=steal,
        fresh=tuple(fresh),
        replace=replace,
    )
    code = run_sweep(loaded, options, console or Console(quiet=True), problems=problems)
    return EndedRun(code, options.root)
