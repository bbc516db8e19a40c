"""Score the checkpoints that a sweep's root holds, and edit nothing."""

from pathlib import Path

from rich.console import Console

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from workflows.runs.sweep import RunOptions, run_sweep
from workflows.store.layout import SWEEP_FILE
from workflows.store.plan import read_plan
from workflows.sweeps.expand import Sweep, load_sweep

__all__ = ["score_root"]


def score_root(
    *,
    root: str,
    sweep: Path | None = None,
    address: str | None = None,
    local: bool = False,
    num_cpus: int | None = None,
    trust_task_code: bool = False,
    console: Console | None = None,
    problems: Console | None = None,
) -> int:
    """Score every published checkpoint below `root` that has no rows, and the unedited models; return the exit code.

    0: all that is there is scored; 1: something failed; 130: stopped. `sweep` is the sweep file; without it the copy
    below the root is read, which suffices unless the file names others relative to its own folder. Reads checkpoints,
    writes rows and details; a second call scores what is new. Raises InputError if there is no sweep, if the file is
    another one, or if a driver works on it; StorageError if storage fails.
    """
    storage = Storage(root)
    storage.require_reachable()
    loaded = _loaded(storage, sweep, trust_task_code=trust_task_code)
    options = RunOptions(
        root=root,
        address=address,
        local=local,
        num_cpus=num_cpus,
        retry_failed=False,
        steal=False,
        scores_only=True,
    )
    return run_sweep(loaded, options, console or Console(quiet=True), problems=problems)


def _loaded(storage: Storage, sweep: Path | None, *, trust_task_code: bool) -> Sweep:
    overrides = read_plan(storage).overrides
    if sweep is not None:
        return load_sweep(sweep, overrides, trust_task_code=trust_task_code, run_code=trust_task_code)
    with storage.as_file(SWEEP_FILE) as copy:
        try:
            return load_sweep(copy, overrides, trust_task_code=trust_task_code, run_code=trust_task_code)
        except InputError as error:
            remedy = f"give the sweep file itself with --sweep: {error.remedy or 'its files are beside it'}"
            raise InputError(error.what, where=error.where or "", remedy=remedy) from error
