"""`sphere tasks`: the tasks of general ability."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from workflows.commands.output_options import JsonOption, WideOption
from workflows.preflight.ability_tasks import suite_view, suites_table
from workflows.terminal.console import output_console, print_json, say

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere tasks                      presets and shipped suites
  sphere tasks sphere               a preset: its tasks, data sets and source
  sphere tasks alphaedit --check    whether its data can be had from here
  sphere tasks mmlu                 a task, group or tag of lm-eval; a folder

A name goes into a sweep file as it is: evaluators: {general: {tasks: [sphere]}}.
Exit code 1 where --check finds data that can be had neither from the hub nor
from the local cache.
"""


@app.command(epilog=_EPILOG)
def tasks(
    name: Annotated[str | None, typer.Argument(help="A preset, suite, task, group, tag, folder or YAML file")] = None,
    check: Annotated[bool, typer.Option("--check", help="Look whether the data can be had")] = False,
    include_path: Annotated[
        list[Path] | None, typer.Option(metavar="PATH", help="Folder of task YAMLs whose names are looked up first")
    ] = None,
    as_json: JsonOption = False,
    wide: WideOption = False,
) -> None:
    """List the suites and presets of general ability, or show one entry with its data."""
    console = output_console()
    if name is None:
        table = suites_table()
        if as_json:
            print_json(console, {"suites": table.records()})
            return
        console.print(replace(table, wide=wide), soft_wrap=wide)
        say(console, "sphere tasks NAME shows one; any task, group or tag of lm-eval may be named")
        return
    view = suite_view(name=name, include_path=[str(path) for path in include_path or []], check=check)
    if as_json:
        print_json(console, {"name": name, **view.heading, "tasks": view.table.records(), "missing": view.missing})
    else:
        for key, text in view.heading.items():
            say(console, f"{key}: {text}")
        console.print(replace(view.table, wide=wide), soft_wrap=wide)
        for fault in view.missing:
            say(console, fault)
    if view.missing:
        raise typer.Exit(1)
