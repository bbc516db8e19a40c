"""`sphere plan`: what a sweep would run, and what is done."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from sphere_core.costs.accelerators import accelerator, accelerator_names
from sphere_core.foundation.storage import Storage
from workflows.commands.console import output_console
from workflows.results.status.status import MOST_LINES, groups_table, state_counts
from workflows.store.state import SweepState, derive_state
from workflows.sweeps.spec import read_sweep

if TYPE_CHECKING:
    from workflows.sweeps.expand import Sweep

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(
    epilog="\b\nExamples:\n  sphere plan examples/quickstart.yaml\n  sphere plan sweep.yaml --root s3://bucket/sweeps/main"
    "\n  sphere plan examples/sphere_paper_llama3.yaml --price h100     no model, data or GPU needed"
)
def plan(
    sweep: Annotated[Path, typer.Argument(help="Sweep file (YAML)")],
    root: Annotated[str | None, typer.Option(help="Where the sweep lives; default runs/NAME")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole plan as JSON")] = False,
    price: Annotated[
        str | None,
        typer.Option(
            help=f"Only estimate hours, memory and disk on this accelerator: {', '.join(accelerator_names())}"
        ),
    ] = None,
) -> None:
    """Check a sweep file and all it names; show what would run and what is done. Starts and writes nothing."""
    if price is not None:
        from workflows.preflight.price import price_sweep
        from workflows.preflight.price_table import price_panel

        output_console().print(
            price_panel(price_sweep(read_sweep(sweep)[0], sweep.resolve().parent, accelerator(price)))
        )
        return
    from workflows.sweeps.expand import load_sweep

    loaded = load_sweep(sweep)
    place = root or loaded.default_root
    console = output_console()
    if as_json:
        console.out(loaded.plan.model_dump_json(indent=1), highlight=False)
        return
    storage = Storage(place)
    storage.require_reachable()
    state = derive_state(storage, loaded.plan)
    console.print(_trajectories(loaded, state))
    for line in _summary(loaded, state, place):
        console.print(line, highlight=False)


def _trajectories(sweep: "Sweep", state: SweepState) -> Table:
    if len(state.trajectories) > MOST_LINES:
        return groups_table(state, title=_title(state))
    table = Table(title=_title(state), title_justify="left", box=SIMPLE_HEAD)
    for name in ("trajectory", "model", "method", "seed", "edits", "checkpoints", "scored", "state"):
        table.add_column(name, no_wrap=True, justify="right" if name in ("seed", "edits") else "left")
    for found in state.trajectories:
        plan = found.plan
        scored = len(found.to_score) * len(plan.evaluations) - len(found.missing)
        wanted = len(found.to_score if found.is_edited else plan.wanted)
        table.add_row(
            plan.id,
            plan.model,
            plan.title,
            str(plan.seed),
            str(plan.edits),
            f"{len(found.to_score)}/{wanted}",
            f"{scored}/{wanted * len(plan.evaluations)}",
            found.state,
        )
    return table


def _title(state: SweepState) -> str:
    return f"{len(state.trajectories)} trajectories: {state_counts(state.trajectories)}"


def _summary(sweep: "Sweep", state: SweepState, place: str) -> list[str]:
    left = sum(t.plan.edits - t.edits_done for t in state.trajectories if not t.is_edited)
    grid = sweep.spec
    lines = [
        f"models: {', '.join(model.label for model in grid.models)}",
        f"streams: {'; '.join(f'{stream.name}, {stream.order_name}, {stream.edits} edits' for stream in grid.streams)}",
        f"root: {place}",
        f"to do: {left} of {sweep.plan.edits} edits, {len(state.bases_missing)} scores of unedited models",
    ]
    if state.failures:
        lines.append(f"failed before: {len(state.failures)}; they stay failed unless run with --retry-failed")
    if state.is_complete:
        lines.append("everything is done")
    return lines
