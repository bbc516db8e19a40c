"""The `sphere` command. Each subcommand is imported when it is called; help needs the table below and no more."""

import importlib
import io
import sys
import textwrap
from typing import Annotated, Any, NamedTuple

import typer
from rich.panel import Panel
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

import sphere_core
from sphere_core.foundation.errors import InputError, nearest_name
from sphere_core.foundation.storage_faults import StorageError
from workflows.terminal.console import notice_console
from workflows.terminal.escape import one_line
from workflows.terminal.help_layout import PlainCommand

__all__ = ["main"]


class Command(NamedTuple):
    """A subcommand: its module below workflows.commands, the line that help shows, and the group it is listed in."""

    module: str
    help: str
    group: str


_RUN, _RESULTS, _DATA, _MODEL = "Run", "Results", "Models and data", "One model"
# A line of help fits 80 columns: 64 characters at most.
COMMANDS = {
    "init": Command("init", "Write a commented sweep file for the embedded model", _RUN),
    "new": Command("new", "Write the start of a plugin: a regularizer, editor, evaluator", _RUN),
    "run": Command("run", "Run a sweep: edit, score every checkpoint, print the table", _RUN),
    "plan": Command("plan", "Show what a sweep would run and what is done; writes nothing", _RUN),
    "score": Command("score", "Score the checkpoints that a root holds; edit nothing", _RUN),
    "status": Command("status", "Show the state of each trajectory, from files alone", _RUN),
    "retry": Command("retry", "Clear failures, so that the next run tries again", _RUN),
    "gc": Command("gc", "Remove leftovers and checkpoints that need not be kept", _RUN),
    "verify": Command("verify", "Check every file of a sweep against its digests; repair it", _RUN),
    "compact": Command("compact", "One row file per finished trajectory: a cache for tables", _RUN),
    "submit": Command("submit", "Submit a sweep to a Ray cluster as a job, or attach to it", _RUN),
    "stop": Command("stop", "Stop a submitted sweep; what it has published is kept", _RUN),
    "table": Command("table", "Results: means and spread over seeds", _RESULTS),
    "ability": Command("ability", "General ability per task, with the change from unedited", _RESULTS),
    "retention": Command("retention", "Each edit over the checkpoints: curves, cohorts, survival", _RESULTS),
    "edits": Command("edits", "Single edits over the checkpoints, and the most forgotten", _RESULTS),
    "correlate": Command("correlate", "Energy drift and other geometry against the scores", _RESULTS),
    "plot": Command("plot", "Draw a figure of a sweep, with its data as CSV beside it", _RESULTS),
    "compare": Command("compare", "Two sweeps: the same cells paired, and what differed", _RESULTS),
    "sql": Command("sql", "Query the rows of sweeps with SQL", _RESULTS),
    "report": Command("report", "One HTML file: tables, figures, lost edits, provenance", _RESULTS),
    "bundle": Command("bundle", "Rows, tables, figures, provenance as one archive", _RESULTS),
    "track": Command("track", "Scores as runs of trackio, Weights & Biases or MLflow", _RESULTS),
    "doctor": Command("doctor", "Check this machine, a model and a method before loading", _DATA),
    "calibrate": Command("calibrate", "Find hyperparameters for a model that has no preset", _DATA),
    "data": Command("data", "Check a data set: schema, counts, hash, what can be asked", _DATA),
    "order": Command("order", "Order a data set by the similarity of its edits' keys", _DATA),
    "moments": Command("moments", "Second moments: build, list, verify, import, compare", _DATA),
    "serac": Command("serac", "Train the two models that the method serac uses", _DATA),
    "methods": Command("methods", "List the methods, or one with its hyperparameters", _DATA),
    "tasks": Command("tasks", "List general-ability tasks; --check looks for their data", _DATA),
    "edit": Command("edit", "Run one trajectory in this process, without Ray", _MODEL),
    "export": Command("export", "Write an edited model as a Hugging Face folder", _MODEL),
    "apply": Command("apply", "Make an edited model from its base and its edited weights", _MODEL),
    "factworld": Command("factworld", "Train the embedded model from scratch", _MODEL),
}

_EXAMPLES = """\b
Examples:
  sphere init                         a commented sweep file: sweep.yaml
  sphere plan sweep.yaml              what would run, what is done
  sphere run sweep.yaml               edit, score, print the table
  sphere status runs/first            the state of each trajectory
  sphere table runs/first             the results so far
  sphere retention runs/first curve   what was kept and forgotten
  sphere methods memit+sphere         what a method is made of
"""


class _LazyGroup(TyperGroup):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        return TyperCommand(cmd_name, short_help=COMMANDS[cmd_name].help)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            near = nearest_name(args[0], COMMANDS)
            ctx.fail(f"no command '{args[0]}'" + (f": did you mean '{near}'?" if near else ""))
        name, command, rest = super().resolve_command(ctx, args)
        if name in COMMANDS:
            command = _load(name)
        return name, command, rest

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        width = max(map(len, COMMANDS))
        for group in dict.fromkeys(command.group for command in COMMANDS.values()):
            with formatter.section(group):
                rows = [(n.ljust(width), command.help) for n, command in COMMANDS.items() if command.group == group]
                formatter.write_dl(rows)


def _load(name: str) -> Any:
    """Return a command from its module."""
    declared: typer.Typer = importlib.import_module(f"workflows.commands.{COMMANDS[name].module}").app
    for information in declared.registered_commands:
        information.cls = PlainCommand
    command = typer.main.get_command(declared)
    command.name = name
    return command


_REMEDY = 700

app = typer.Typer(
    cls=_LazyGroup,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"sphere {sphere_core.__version__}")
        raise typer.Exit


@app.callback(epilog=_EXAMPLES)
def _sphere(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Sweeps of sequential knowledge editing on language models, scored at every checkpoint."""


def main() -> None:
    """Run the command line; a fault of the input is one screen of text and exit code 2, one of storage exit code 3."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        # As on stderr: what another encoding than UTF-8 cannot show is written as \xb1.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="sphere")
    except InputError as error:
        _print_error(error)
        sys.exit(2)
    except StorageError as fault:
        remedy = "free space or restore access, then run the same command to resume: everything published is kept"
        gone = InputError("storage is unavailable", where=str(fault), remedy=remedy)
        _print_error(gone)
        sys.exit(3)


def _print_error(error: InputError) -> None:
    text = _error_text(error)
    if sys.stderr.isatty():
        notice_console().print(Panel(text, title="error", title_align="left", border_style="red"))
    else:
        # In a log or a pipe a path stays whole: no box, no wrapping.
        notice_console().print(Text("error: ").append_text(text))


def _error_text(error: InputError) -> Text:
    text = Text(_printable(error.what))
    if error.where:
        text.append("\n\nwhere:   ", style="bold").append(_printable(error.where))
    if error.remedy:
        # A long list of valid names would push the fault off the screen; the nearest name comes first.
        shown = textwrap.shorten(_printable(error.remedy), _REMEDY, placeholder=" ...")
        text.append("\n\nremedy:  ", style="bold").append(shown)
    return text


def _printable(text: str) -> str:
    # An error quotes what users wrote, which may hold escape sequences of the terminal.
    return "\n".join(line if line.isprintable() else one_line(line) for line in text.split("\n"))


if __name__ == "__main__":
    main()
