"""`sphere plan`: what a sweep would run, and what is done."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sphere_core.costs.accelerators import accelerator, accelerator_names
from sphere_core.foundation.storage import Storage
from workflows.commands.output_options import JsonOption, WideOption
from workflows.commands.set_option import SetOption
from workflows.commands.task_options import TrustTaskCodeOption
from workflows.results.status.status import MOST_LINES, groups_table, state_counts
from workflows.store.identifiers import prefix_length
from workflows.store.state import SweepState, derive_state
from workflows.sweeps.reading import read_sweep
from workflows.terminal.console import output_console, print_json, say
from workflows.terminal.table import Cell, Column, Id, TextTable

if TYPE_CHECKING:
    from workflows.sweeps.expand import Sweep

__all__ = ["app"]

_EPILOG = """\b
Examples:
  sphere plan sweep.yaml
  sphere plan sweep.yaml --root s3://bucket/sweeps/main
  sphere plan sweep.yaml --price h100       no model, data or GPU needed
  sphere plan sweep.yaml --set 'seeds=[0, 1, 2]' \\
      --set methods[0].hyperparameters.strength=0.5
"""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(epilog=_EPILOG)
def plan(
    sweep: Annotated[Path, typer.Argument(help="Sweep file (YAML)")],
    root: Annotated[str | None, typer.Option(help="Where the sweep lives; default runs/NAME")] = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
    wide: WideOption = False,
    trust_task_code: TrustTaskCodeOption = False,
    price: Annotated[
        str | None,
        typer.Option(
            help="Only estimate hours, memory and disk on this accelerator: "
            f"{', '.join(accelerator_names())}, or a file of `doctor --measure`"
        ),
    ] = None,
) -> None:
    """Check a sweep file and all it names; show what would run and what is done. Starts and writes nothing."""
    if price is not None:
        from workflows.preflight.price import price_sweep
        from workflows.preflight.price_table import price_panel

        found = price_sweep(
            read_sweep(sweep, set_ or ())[0], sweep.resolve().parent, accelerator(price, where="--price")
        )
        if as_json:
            print_json(output_console(), asdict(found))
        else:
            output_console().print(price_panel(found, wide=wide), soft_wrap=wide)
        return
    from workflows.sweeps.expand import load_sweep

    loaded = load_sweep(sweep, set_ or (), trust_task_code=trust_task_code)
    place = root or loaded.default_root
    console = output_console()
    if as_json:
        console.out(loaded.plan.model_dump_json(indent=1), highlight=False)
        return
    storage = Storage(place)
    storage.require_reachable()
    state = derive_state(storage, loaded.plan)
    console.print(_trajectories(state, wide=wide), soft_wrap=wide)
    for line in _summary(loaded, state, place):
        say(console, line)


_COLUMNS = (
    Column("trajectory"),
    Column("model", shared=True),
    Column("method"),
    Column("seed", right=True),
    Column("edits", 1, right=True, shared=True),
    Column("checkpoints", 3, right=True, shared=True),
    Column("scored", 2, right=True, shared=True),
    Column("state"),
)


def _trajectories(state: SweepState, *, wide: bool) -> TextTable:
    if len(state.trajectories) > MOST_LINES:
        return replace(groups_table(state, title=_title(state)), wide=wide)
    digits = prefix_length([found.plan.id for found in state.trajectories])
    rows: list[list[Cell]] = []
    for found in state.trajectories:
        plan = found.plan
        scored = len(found.to_score) * len(plan.evaluations) - len(found.missing)
        wanted = len(found.to_score if found.is_edited else plan.wanted)
        rows.append(
            [
                Id(plan.id, plan.id[:digits]),
                plan.model,
                plan.title,
                plan.seed,
                plan.edits if plan.parent is None else f"{plan.length} steps",
                f"{len(found.to_score)}/{wanted}",
                f"{scored}/{wanted * len(plan.evaluations)}",
                found.state,
            ]
        )
    return TextTable(_COLUMNS, rows, _title(state), wide)


def _title(state: SweepState) -> str:
    return f"{len(state.trajectories)} trajectories: {state_counts(state.trajectories)}"


def _summary(sweep: "Sweep", state: SweepState, place: str) -> list[str]:
    left = sum(t.plan.edits - t.edits_done for t in state.trajectories if not (t.is_edited or t.plan.parent))
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
    return [*lines, *sweep.note_lines()]
