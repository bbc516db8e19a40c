"""One run of a sweep: publish the plan, work through what is left, print what came out."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from sphere_core.foundation.storage_faults import StorageError
from sphere_core.trajectory_spec import TrajectorySpec
from workflows.cluster.ray_executor import RayExecutor
from workflows.driver.backlog import Backlog
from workflows.driver.display import SweepDisplay
from workflows.driver.driver import Driver, SweepResult
from workflows.driver.executor import Executor, ExecutorError
from workflows.driver.local_executor import LocalExecutor
from workflows.driver.verdicts import forget_other_verdicts, has_other_verdicts, judge, lies_beyond
from workflows.results.formats.output import write_answer
from workflows.results.formats.results_view import results_answer
from workflows.results.status.status import failures_table
from workflows.results.tables.table import results_table
from workflows.runs.interrupts import interrupts
from workflows.store.driver_lock import DriverLock
from workflows.store.layout import PLAN_FILE, ROWS, SPEC_FILE, SWEEP_FILE, TRAJECTORIES, spec_path
from workflows.store.retry import forget_failures
from workflows.store.state import SweepFiles, SweepState, derive_state, scan
from workflows.store.trimming import forget_trimmed
from workflows.sweeps.expand import Sweep

__all__ = ["RunOptions", "run_sweep"]

EXIT_DONE, EXIT_FAILED, EXIT_STOPPED = 0, 1, 130
# Small files a new sweep writes at a time.
_WRITERS = 16


@dataclass(frozen=True)
class RunOptions:
    """How a sweep is run: where it lives, and on what."""

    root: str
    address: str | None
    local: bool
    num_cpus: int | None
    retry_failed: bool
    steal: bool


def run_sweep(sweep: Sweep, options: RunOptions, console: Console) -> int:
    """Run what is left of a sweep and return the exit code."""
    if options.local and options.address is not None:
        raise InputError("--local and --address exclude each other", remedy="leave one out")
    storage = Storage(options.root)
    storage.require_reachable()
    files = scan(storage)
    state = derive_state(storage, sweep.plan, files)
    is_judged = not has_other_verdicts(sweep.plan, state) and not (state.is_complete and _owes_verdict(sweep, storage))
    if state.is_complete and is_judged and not (options.retry_failed and state.failures):
        _tidy(sweep, storage, state, files, console)
        console.print(f"{sweep.plan.name}: everything is done, nothing to run")
        result = SweepResult(complete=True, stopped=False, failures=tuple(state.failures))
        return _report(sweep, options, storage, result, console)
    storage.require_writable()
    lock = DriverLock(storage).acquire(steal=options.steal, tell=console.print)
    with lock, _logging_to(console):
        if options.retry_failed:
            forget_failures(storage, sweep.plan, derive_state(storage, sweep.plan))
        _publish_plan(sweep, storage)
        try:
            result = _work(sweep, options, storage, console, lock)
        except ExecutorError as error:
            console.print(f"{error}\n{error.remedy}", style="bold red", highlight=False)
            return EXIT_FAILED
        except KeyboardInterrupt:
            console.print("ended at once; run the same command to resume from the last checkpoints", highlight=False)
            return EXIT_STOPPED
    if result.storage_fault is not None:
        raise StorageError(result.storage_fault)
    return _report(sweep, options, storage, result, console)


def _owes_verdict(sweep: Sweep, storage: Storage) -> bool:
    """Return whether the watchdog would stop a trajectory that has been scored to its end.

    It may have been added later, or its driver killed between the last score and the verdict.
    """
    limits = sweep.plan.watchdog
    if limits is None:
        return False
    backlog = Backlog.from_files(sweep, storage)
    return any(
        tracked.stopped_at is None and backlog.verdict(key, limits) is not None
        for key, tracked in backlog.tracked.items()
    )


def _tidy(sweep: Sweep, storage: Storage, state: SweepState, files: SweepFiles, console: Console) -> None:
    """Bring a complete sweep's plan up to date and clear away what lies beyond its verdicts, where that is owed.

    Where another driver works below this root, with a plan of its own, all of it is left as it is.
    """
    if not (lies_beyond(state, files) or _unpublished(sweep, storage)):
        return
    try:
        lock = DriverLock(storage).acquire(tell=console.print)
    except InputError as held:
        console.print(f"{held.what}; its plan and what it does are left as they are", highlight=False, soft_wrap=True)
        return
    with lock:
        forget_other_verdicts(storage, sweep.plan, derive_state(storage, sweep.plan))
        _publish_plan(sweep, storage)


def _work(sweep: Sweep, options: RunOptions, storage: Storage, console: Console, lock: DriverLock) -> SweepResult:
    files = scan(storage)
    state = derive_state(storage, sweep.plan, files)
    forget_trimmed(storage, state, files)
    forget_other_verdicts(storage, sweep.plan, state)
    backlog = Backlog.from_files(sweep, storage)
    resources = sweep.spec.resources
    if not any(backlog.waiting().values()) and not backlog.has_open_trajectories():
        for trajectory_id in backlog.tracked if sweep.plan.watchdog is not None else ():
            judge(backlog, storage, trajectory_id)
        state = derive_state(storage, sweep.plan)
        return SweepResult(complete=state.is_complete, stopped=False, failures=tuple(state.failures))
    with contextlib.ExitStack() as stack:
        executor: Executor
        root = _absolute(options.root)
        if options.local:
            executor = LocalExecutor(root, threads=resources.threads, device=resources.replica.device)
        else:
            console.print("starting Ray" if options.address is None else f"attaching to Ray at {options.address}")
            executor = RayExecutor(root, resources, address=options.address, num_cpus=options.num_cpus)
        stack.callback(executor.close)
        titles = {plan.id: f"{plan.model} {plan.title} seed {plan.seed}" for plan in sweep.plan.trajectories}
        display = stack.enter_context(SweepDisplay(console, titles))
        evaluators = 0 if options.local else resources.evaluator.replicas
        driver = Driver(backlog, executor, storage, display, evaluators=evaluators, guard=lock.require)
        if isinstance(executor, LocalExecutor):
            executor.listener = driver.listen

        def stop() -> None:
            driver.interrupt()
            if isinstance(executor, LocalExecutor):
                # Its replica works in this thread, and hears of it in no other way.
                executor.stop_work()

        # After Ray has started: it installs a handler of its own, which aborts.
        stack.enter_context(interrupts(stop))
        return driver.run()


def _publish_plan(sweep: Sweep, storage: Storage) -> None:
    """Write the sweep file, the plan and the trajectories' specifications, where they are not there yet."""
    missing = _unpublished(sweep, storage)
    for path in (SWEEP_FILE, PLAN_FILE):
        if path in missing:
            storage.write_bytes(path, missing.pop(path)())
    with ThreadPoolExecutor(_WRITERS) as pool:
        for _ in pool.map(lambda path: storage.write_bytes(path, missing[path]()), missing):
            pass


def _unpublished(sweep: Sweep, storage: Storage) -> dict[str, Callable[[], bytes]]:
    """Return what makes the bytes of each of these files that is not there, or (of sweep file and plan) is another."""
    files = {
        SWEEP_FILE: Path(sweep.text.source).read_bytes,
        PLAN_FILE: sweep.plan.model_dump_json(indent=1).encode,
    }
    other = {
        path: make for path, make in files.items() if not storage.exists(path) or storage.read_bytes(path) != make()
    }
    present = {path for path in storage.list(TRAJECTORIES) if path.endswith(f"/{SPEC_FILE}")}
    specs = {spec_path(trajectory_id): spec for trajectory_id, spec in sweep.specs.items()}
    missing = {path: partial(_spec_bytes, spec) for path, spec in specs.items() if path not in present}
    return {**other, **missing}


def _spec_bytes(spec: TrajectorySpec) -> bytes:
    return spec.model_dump_json(indent=1).encode()


def _report(sweep: Sweep, options: RunOptions, storage: Storage, result: SweepResult, console: Console) -> int:
    table = results_table(storage, sweep.plan, by_edits=False)
    if table.rows:
        console.print()
        write_answer(results_answer(table), console)
    if result.failures:
        console.print(failures_table(list(result.failures)))
    console.print(f"rows: {options.root}/{ROWS}/*/*.parquet", highlight=False, soft_wrap=True)
    for line in _next_steps(sweep, options, result):
        console.print(line, highlight=False, soft_wrap=True)
    if result.stopped:
        return EXIT_STOPPED
    return EXIT_DONE if result.complete and not result.failures else EXIT_FAILED


def _next_steps(sweep: Sweep, options: RunOptions, result: SweepResult) -> list[str]:
    if result.stopped:
        return ["stopped; run the same command to resume from the last checkpoints"]
    if result.failures:
        return [f"tracebacks: {options.root}/trajectories/*/error.json and {options.root}/errors/"]
    steps = {
        f"sphere table {options.root} --by edits": "the scores along the way",
        f"sphere status {options.root}": "each trajectory",
        "sphere methods": "what else could be in the grid",
        "sphere edit --help": "one trajectory on a model of your own",
    }
    width = max(len(command) for command in steps)
    lines = [f"      {command:<{width}}   {meaning}" for command, meaning in steps.items()]
    return [f"next: {lines[0].strip()}", *lines[1:]]


def _absolute(root: str) -> str:
    """Return a root that means the same in another process: a relative path is made absolute, a URL stays."""
    return root if "://" in root else str(Path(root).expanduser().resolve())


@contextlib.contextmanager
def _logging_to(console: Console) -> Iterator[None]:
    logger = logging.getLogger("workflows")
    handler = RichHandler(console=console, show_path=False, markup=False)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
