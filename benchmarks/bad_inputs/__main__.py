"""`python -m benchmarks.bad_inputs`: every bad input through the real command; results are kept.

Each must end with exit code 2 and one screen that has place and remedy, within 20 seconds, with nothing written. Run
the same command to resume: inputs that have a result are not run again.
"""

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.bad_inputs.calibrations import CALIBRATIONS
from benchmarks.bad_inputs.case import BadInput
from benchmarks.bad_inputs.data import DATA
from benchmarks.bad_inputs.look_alikes import LOOK_ALIKES
from benchmarks.bad_inputs.misfits import MISFITS
from benchmarks.bad_inputs.models import MODELS
from benchmarks.bad_inputs.settings import SETTINGS
from benchmarks.bad_inputs.sweeps import SWEEPS
from benchmarks.bad_inputs.tasks import TASKS
from benchmarks.bad_inputs.verdict import faults_of, load_command, outcome_of

__all__ = ["ALL", "main"]

ALL: list[BadInput] = [*SWEEPS, *DATA, *MODELS, *SETTINGS, *TASKS, *LOOK_ALIKES, *MISFITS, *CALIBRATIONS]

Results = dict[str, dict[str, object]]


def _judge(case: BadInput) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="bad-input-") as place:
        folder = Path(place)
        outcome = outcome_of(case.make(folder), folder)
        shown = outcome.screen.replace(place, "...")
    return {"faults": faults_of(outcome), "seconds": round(outcome.seconds, 1), "screen": shown[-4000:]}


def _table(cases: list[BadInput], results: Results) -> Table:
    table = Table("kind", "tried", "right", title="bad inputs")
    tried = Counter(case.kind for case in cases if case.id in results)
    right = Counter(case.kind for case in cases if case.id in results and not results[case.id]["faults"])
    for kind, count in tried.items():
        table.add_row(kind, str(count), str(right[kind]))
    table.add_row("all", str(tried.total()), str(right.total()))
    return table


def main(
    results: Annotated[Path, typer.Option(help="JSON file that results are kept in")] = Path("bad_inputs.json"),
    only: Annotated[str | None, typer.Option(help="Only inputs whose kind/name holds this text")] = None,
    again: Annotated[bool, typer.Option("--again", help="Run those that were not right again")] = False,
) -> None:
    """Run the inputs that have no result yet, and print kind, tried, right and faults; exits 1 if there are any."""
    console = Console()
    known: Results = json.loads(results.read_text()) if results.is_file() else {}
    chosen = [case for case in ALL if only is None or only in case.id]
    todo = [case for case in chosen if case.id not in known or (again and known[case.id]["faults"])]
    load_command()
    for case in track(todo, "bad inputs", console=console, transient=True):
        known[case.id] = judged = _judge(case)
        results.write_text(json.dumps(known, indent=1))
        if judged["faults"]:
            console.print(f"{case.id}: {judged['faults']}", highlight=False, markup=False)
    console.print(_table(chosen, known))
    wrong = [case.id for case in chosen if case.id in known and known[case.id]["faults"]]
    for name in wrong:
        console.print(f"wrong: {name}: {known[name]['faults']}", highlight=False, markup=False)
    raise typer.Exit(1 if wrong else 0)


if __name__ == "__main__":
    typer.run(main)
