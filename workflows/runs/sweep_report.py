"""What a run of a sweep prints at its end, and the exit code it stands for."""

from rich.console import Console

from sphere_core.foundation.storage import Storage
from workflows.driver.driver import SweepResult
from workflows.results.formats.output import write_answer
from workflows.results.formats.results_view import results_answer
from workflows.results.sql.sweep_roots import SweepRoot
from workflows.results.status.status import failures_table
from workflows.results.tables.table import results_table
from workflows.store.layout import ERROR_FILE, ERRORS, ROWS, TRAJECTORIES
from workflows.store.weak_starts import weak_starts
from workflows.sweeps.expand import Sweep
from workflows.terminal.console import say
from workflows.terminal.table import Column, TextTable

__all__ = ["EXIT_DONE", "EXIT_FAILED", "EXIT_STOPPED", "report"]

EXIT_DONE, EXIT_FAILED, EXIT_STOPPED = 0, 1, 130


def report(sweep: Sweep, root: str, storage: Storage, result: SweepResult, console: Console, problems: Console) -> int:
    """Print the table to `console`, failures and what to do about them to `problems`; return the exit code."""
    table = results_table(SweepRoot.of(storage, sweep.plan), by_edits=False)
    if table.rows:
        console.print()
        write_answer(results_answer(table), console)
    if result.failures:
        problems.print(failures_table(list(result.failures)))
    for warning in weak_starts(storage, sweep.plan.trajectories):
        say(problems, f"warning: {warning}", style="yellow")
    console.print(f"rows: {root}/{ROWS}/*/*.parquet", highlight=False, soft_wrap=True)
    done = result.complete and not result.stopped and not result.failures
    _print_next_steps(root, result, console if done else problems)
    if result.stopped:
        return EXIT_STOPPED
    return EXIT_DONE if result.complete and not result.failures else EXIT_FAILED


def _print_next_steps(root: str, result: SweepResult, console: Console) -> None:
    if result.stopped:
        say(console, "stopped; run the same command to resume from the last checkpoints")
    elif result.failures:
        say(console, f"tracebacks: {root}/{TRAJECTORIES}/*/{ERROR_FILE} and {root}/{ERRORS}/")
    else:
        rows = [
            [f"sphere table {root} --by edits", "the scores along the way"],
            [f"sphere status {root}", "each trajectory"],
            ["sphere methods", "what else could be in the grid"],
            ["sphere edit --help", "one trajectory on a model of your own"],
        ]
        console.print(TextTable([Column("next"), Column("shows", prose=True)], rows))
