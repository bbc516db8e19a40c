"""The `sphere` command. Each subcommand is loaded when it is called, so that help, status and tables come at once."""

import gc
import importlib
import sys
import textwrap
from types import ModuleType
from typing import Any

import typer
from rich.console import Console
from rich.panel import Panel
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage_faults import StorageError

__all__ = ["main"]

# Name, module below workflows.commands, and the line that help shows.
COMMANDS = {
    "plan": ("plan", "Show what a sweep would run and what is done; starts nothing, writes nothing."),
    "run": ("run", "Run a sweep: edit, score every checkpoint, gather rows, print the table."),
    "status": ("status", "Show where each trajectory of a sweep stands, from its files alone."),
    "retry": ("retry", "Forget failures, so that the next run tries again."),
    "gc": ("gc", "Remove what killed writers left and checkpoints that need not be kept."),
    "table": ("table", "Print the results table: means and spread over seeds."),
    "ability": ("ability", "General ability task by task, with the change from the unedited model."),
    "tasks": ("tasks", "List suites and presets of general ability, or show one and whether its data can be had."),
    "retention": ("retention", "Follow every edit over the checkpoints: curves, cohorts, survival."),
    "correlate": ("correlate", "Correlate energy drift and other geometry with the scores; tabulate the bound."),
    "methods": ("methods", "List the methods, or show one with its hyperparameters and their sources."),
    "edit": ("edit", "Run one trajectory in this process: one checkpoint a batch."),
    "export": ("export", "Write an edited model as a plain Hugging Face folder, or its edited weights alone."),
    "apply": ("apply", "Make the edited model again from the base model and its edited weights."),
    "calibrate": ("calibrate", "Find hyperparameters for a model without a preset, on held-out requests."),
    "doctor": ("doctor", "Check this machine, a model and a method before anything is loaded."),
    "submit": ("submit", "Submit a sweep to a Ray cluster as a job; a second time attaches to it."),
    "stop": ("stop", "Stop a submitted sweep; what it has published stays."),
    "data": ("data", "Check a data set: schema, counts, hash, what can be asked."),
    "order": ("order", "Order a data set by the similarity of its edits' keys."),
    "moments": ("moments", "Second moments of a model: build, list, verify, import, compare."),
    "factworld": ("factworld", "The embedded model and its world."),
}

_EXAMPLES = """\b
Examples:
  sphere run examples/quickstart.yaml      the main job on the embedded model
  sphere plan examples/quickstart.yaml     what would run, what is done
  sphere status runs/quickstart            where each trajectory stands
  sphere table runs/quickstart             the results so far
  sphere retention runs/quickstart curve   what was kept and forgotten
  sphere methods memit+sphere              what a method is made of
"""


class _LazyGroup(TyperGroup):
    """A group whose commands are imported when they are called; help needs their names only."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        return TyperCommand(cmd_name, help=COMMANDS[cmd_name][1])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        if name in COMMANDS:
            command = typer.main.get_command(_import(COMMANDS[name][0]).app)
            command.name = name
        return name, command, rest


def _import(command: str) -> ModuleType:
    """Return the module of a command.

    What it imports makes a million objects that stay; walking them again and again is a quarter of the time that takes.
    """
    gc.disable()
    try:
        return importlib.import_module(f"workflows.commands.{command}")
    finally:
        gc.enable()


_REMEDY = 700

app = typer.Typer(
    cls=_LazyGroup,
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(epilog=_EXAMPLES)
def _sphere() -> None:
    """Sweeps of sequential knowledge editing on language models, scored at every checkpoint."""


def main() -> None:
    """Run the command line; a fault of the input is one screen of text and exit code 2, one of storage exit code 3."""
    try:
        app(prog_name="sphere")
    except InputError as error:
        Console(stderr=True).print(_error_panel(error))
        sys.exit(2)
    except StorageError as fault:
        remedy = "free space or restore access, then run the same command to resume: everything published is kept"
        gone = InputError("storage is unavailable", where=str(fault), remedy=remedy)
        Console(stderr=True).print(_error_panel(gone))
        sys.exit(3)


def _error_panel(error: InputError) -> Panel:
    text = Text(error.what)
    if error.where:
        text.append("\n\nwhere:   ", style="bold").append(error.where)
    if error.remedy:
        # A long list of valid names would push the fault off the screen; the nearest name stands first.
        text.append("\n\nremedy:  ", style="bold").append(textwrap.shorten(error.remedy, _REMEDY, placeholder=" ..."))
    return Panel(text, title="error", title_align="left", border_style="red")


if __name__ == "__main__":
    main()
