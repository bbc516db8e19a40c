"""One run of a sweep: publish the plan, work through what is left, report what came out."""

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from sphere_core.foundation.storage_faults import StorageError
from sphere_core.models.devices import pick_device
from workflows.cluster.ray_executor import RayExecutor
from workflows.driver.backlog import Backlog
from workflows.driver.display import SweepDisplay
from workflows.driver.driver import Driver, SweepResult
from workflows.driver.executor import Executor, ExecutorError
from workflows.driver.local_executor import LocalExecutor
from workflows.driver.sweep_tasks import Editing
from workflows.driver.verdicts import Verdicts, forget_other_verdicts, has_other_verdicts, lies_beyond
from workflows.runs.interrupts import interrupts
from workflows.runs.notify import Notifier, event_of
from workflows.runs.sweep_report import EXIT_FAILED, EXIT_STOPPED, report
from workflows.store.driver_lock import DriverLock
from workflows.store.fresh import forget_method, require_method
from workflows.store.retry import forget_failures
from workflows.store.root_owner import require_own_root
from workflows.store.state import SweepFiles, SweepState, derive_state, scan
from workflows.store.trimming import forget_trimmed
from workflows.sweeps.expand import Sweep
from workflows.sweeps.publish import is_published, publish
from workflows.terminal.console import log_handler

__all__ = ["RunOptions", "run_sweep"]


@dataclass(frozen=True)
class RunOptions:
    """How a sweep is run: where it lives, and on what."""

    root: str
    address: str | None
    local: bool
    num_cpus: int | None
    retry_failed: bool
    steal: bool
    fresh: tuple[str, ...] = ()
    replace: bool = False
    scores_only: bool = False


def run_sweep(sweep: Sweep, options: RunOptions, console: Console, *, problems: Console | None = None) -> int:
    """Run what is left of a sweep and return the exit code: 0 complete, 1 failures, 130 stopped.

    `problems` gets failures, warnings and how to resume; if left out, all of it goes to `console`.
    Writes below the root only, after its lock is taken; a second call does what the first has left. Raises InputError
    for options that exclude each other, an address of `notify` that cannot be used, a root that cannot be reached,
    holds another sweep (without `replace`) or is in use by another driver, and StorageError if storage is full or
    keeps failing.
    """
    if options.local and options.address is not None:
        raise InputError("--local and --address exclude each other", remedy="leave one out")
    problems = problems or console
    for method in options.fresh:
        require_method(sweep.plan, method)
    notifier = Notifier.of(sweep)
    storage = Storage(options.root)
    storage.require_reachable()
    if not options.replace:
        require_own_root(storage, sweep.plan)
    for line in sweep.note_lines():
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    worked = False
    try:
        result = _result_of_complete(sweep, options, storage, console)
        if result is None:
            worked = True
            if options.local:
                pick_device(sweep.spec.resources.replica.device)
            with _logging_to(problems):
                result = _run_locked(sweep, options, storage, console)
    except ExecutorError as error:
        problems.print(f"{error}\n{error.remedy}", style="bold red", highlight=False)
        notifier.ended(storage, sweep.plan, event_of(EXIT_FAILED), str(error))
        return EXIT_FAILED
    except KeyboardInterrupt:
        problems.print("ended at once; run the same command to resume from the last checkpoints", highlight=False)
        return EXIT_STOPPED
    if result.storage_fault is not None:
        notifier.ended(storage, sweep.plan, event_of(EXIT_FAILED), result.storage_fault)
        raise StorageError(result.storage_fault)
    code = report(sweep, options.root, storage, result, console, problems)
    if worked:
        with _logging_to(problems):
            notifier.ended(storage, sweep.plan, event_of(code))
    return code


def _result_of_complete(sweep: Sweep, options: RunOptions, storage: Storage, console: Console) -> SweepResult | None:
    """Return the result of a sweep with nothing left to do; None if something is left."""
    if options.fresh or options.scores_only:
        return None
    files = scan(storage)
    state = derive_state(storage, sweep.plan, files)
    if not state.is_complete or has_other_verdicts(sweep.plan, state) or (options.retry_failed and state.failures):
        return None
    # A watchdog may have been added later, or a driver killed between the last score and the verdict.
    if Verdicts(sweep.plan, Backlog.from_files(sweep, storage), storage).owed():
        return None
    _tidy(sweep, storage, state, files, console)
    console.print(f"{sweep.plan.name}: everything is done, nothing to run")
    return SweepResult(complete=True, stopped=False, failures=tuple(state.failures))


def _tidy(sweep: Sweep, storage: Storage, state: SweepState, files: SweepFiles, console: Console) -> None:
    """Bring a complete sweep's plan up to date and remove what lies beyond its verdicts, where that is left to do.

    Where another driver works below this root, with a plan of its own, all of it is left as it is.
    """
    if is_published(sweep, storage) and not lies_beyond(state, files):
        return
    try:
        lock = DriverLock(storage).acquire(tell=console.print)
    except InputError as held:
        console.print(f"{held.what}; its plan and what it does are left as they are", highlight=False, soft_wrap=True)
        return
    with lock:
        forget_other_verdicts(storage, sweep.plan, derive_state(storage, sweep.plan))
        publish(sweep, storage)


def _run_locked(sweep: Sweep, options: RunOptions, storage: Storage, console: Console) -> SweepResult:
    storage.require_writable()
    lock = DriverLock(storage).acquire(steal=options.steal, tell=console.print)
    with lock:
        if not options.replace:
            # Another driver may have published its plan since.
            require_own_root(storage, sweep.plan)
        if options.scores_only:
            return _score(sweep, options, storage, console, lock)
        for method in options.fresh:
            count = forget_method(storage, sweep.plan, method)
            console.print(f"{method}: {count} trajectories are computed again", highlight=False, markup=False)
        if options.retry_failed:
            forget_failures(storage, sweep.plan, derive_state(storage, sweep.plan))
        publish(sweep, storage)
        _withdraw(sweep, storage)
        backlog = Backlog.from_files(sweep, storage)
        if not backlog.is_empty():
            return _work(sweep, options, storage, console, lock)
        # Nothing to run: no executor is started.
        Verdicts(sweep.plan, backlog, storage).judge_all()
        state = derive_state(storage, sweep.plan)
        return SweepResult(complete=state.is_complete, stopped=False, failures=tuple(state.failures))


def _score(sweep: Sweep, options: RunOptions, storage: Storage, console: Console, lock: DriverLock) -> SweepResult:
    """Score what is on storage and has no rows; complete once nothing of that is left, however much is to be edited."""
    if not is_published(sweep, storage):
        raise InputError(
            "the sweep file is not the one that this root was planned with",
            where=storage.uri,
            remedy="give that file with --sweep, or plan this one with 'sphere run'",
        )
    stopped = False
    if not Backlog.from_files(sweep, storage, editing="none").is_empty():
        stopped = _work(sweep, options, storage, console, lock).stopped
    state = derive_state(storage, sweep.plan)
    scored = not state.bases_missing and not any(found.missing for found in state.trajectories)
    return SweepResult(complete=scored, stopped=stopped, failures=tuple(state.failures))


def _withdraw(sweep: Sweep, storage: Storage) -> None:
    """Withdraw what the plan no longer agrees with: trimmed checkpoints to be scored, verdicts by other limits."""
    files = scan(storage)
    state = derive_state(storage, sweep.plan, files)
    forget_trimmed(storage, state, files)
    forget_other_verdicts(storage, sweep.plan, state)


def _work(sweep: Sweep, options: RunOptions, storage: Storage, console: Console, lock: DriverLock) -> SweepResult:
    evaluators = 0 if options.local else sweep.spec.resources.evaluator.replicas
    with contextlib.closing(_executor(sweep, options, console)) as executor, SweepDisplay(console) as display:
        editing: Editing = "none" if options.scores_only else "paced" if options.local else "ahead"
        driver = Driver(sweep, executor, storage, display, evaluators=evaluators, editing=editing, guard=lock.require)
        # After Ray has started: it installs a handler of its own, which aborts.
        grace = sweep.spec.resources.grace_seconds if options.local else None
        with interrupts(driver.interrupt, grace_seconds=grace):
            return driver.run()


def _executor(sweep: Sweep, options: RunOptions, console: Console) -> Executor:
    resources, root = sweep.spec.resources, _absolute(options.root)
    if options.local:
        return LocalExecutor(root, threads=resources.threads, device=resources.replica.device)
    console.print("starting Ray" if options.address is None else f"attaching to Ray at {options.address}")
    return RayExecutor(root, resources, address=options.address, num_cpus=options.num_cpus)


def _absolute(root: str) -> str:
    """Return a root that means the same in another process: a relative path is made absolute, a URL stays."""
    return root if "://" in root else str(Path(root).expanduser().resolve())


@contextlib.contextmanager
def _logging_to(console: Console) -> Iterator[None]:
    logger = logging.getLogger("workflows")
    handler = log_handler(console)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
