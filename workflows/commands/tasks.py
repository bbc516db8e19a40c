"""`sphere tasks`: what general ability can be measured with."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from evaluators.general.hub_data import HubData, hub_data
from evaluators.general.suites import Member, SuiteResolver, TaskEntry, preset_names, read_preset, shipped_suites
from sphere_core.foundation.errors import InputError
from workflows.commands.console import output_console

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere tasks                        presets and shipped suites
  sphere tasks sphere                 a preset: its tasks, data sets and source
  sphere tasks alphaedit --check      whether its data can be had from here
  sphere tasks mmlu                   any task, group or tag of lm-eval, or a folder

A name goes into a sweep file as it is: evaluators: {general: {tasks: [sphere]}}.
Exit code 1 where --check finds data that can be had neither from the hub nor
from the local cache.
"""


@app.command(epilog=_EPILOG)
def tasks(
    name: Annotated[str | None, typer.Argument(help="A preset, suite, task, group, tag, folder or YAML file")] = None,
    check: Annotated[bool, typer.Option("--check", help="Look whether the data can be had")] = False,
    include_path: Annotated[
        list[Path] | None, typer.Option(help="Folder of task YAMLs whose names are looked up first")
    ] = None,
) -> None:
    """List what general ability can be measured with, or show one entry with its data."""
    console = output_console()
    if name is None:
        console.print(_overview())
        console.print("sphere tasks NAME shows one; any task, group or tag of lm-eval may be named", highlight=False)
        return
    suite = SuiteResolver([str(path) for path in include_path or []]).suite(TaskEntry(task=name))
    if name in preset_names():
        preset = read_preset(name)
        console.print(
            Text.assemble((name, "bold"), f": {preset.title}\nsource: {preset.source}\n{preset.note.strip()}")
        )
    table = Table(title_justify="left")
    for column in ("task", "documents", "examples", "data set", *(["can be had"] if check else [])):
        table.add_column(column, overflow="fold")
    hub, missing = HubData(), list[str]()
    for member in suite.members:
        cells = _cells(member)
        if check:
            lacks = _lacks(member, hub)
            missing += lacks
            cells.append("no" if lacks else "yes")
        table.add_row(*cells)
    console.print(table)
    for fault in missing:
        console.print(fault, highlight=False)
    if missing:
        raise typer.Exit(1)


def _overview() -> Table:
    table = Table(title="General ability", title_justify="left")
    for column in ("name", "what it is", "tasks"):
        table.add_column(column, overflow="fold")
    for name in preset_names():
        preset = read_preset(name)
        table.add_row(name, preset.title, ", ".join(entry.task for entry in preset.entries()))
    for name in shipped_suites():
        found = SuiteResolver().suite(TaskEntry(task=name)).members
        table.add_row(
            name, "ships with the project, needs no network", ", ".join(member.entry.task for member in found)
        )
    return table


def _cells(member: Member) -> list[str]:
    configs, asked, limit = member.configs(), member.entry.num_fewshot, member.entry.limit
    sources: dict[str, list[str | None]] = {}
    for config in configs.values():
        path, name = hub_data(config) or ("files", None)
        sources.setdefault(path, []).append(name)
    listed = [
        f"{path} ({len(names)} parts)" if len(names) > 1 else "/".join(part for part in (path, names[0]) if part)
        for path, names in sources.items()
    ]
    shots = {str((config.get("num_fewshot") or 0) if asked is None else asked) for config in configs.values()}
    return [
        member.entry.task if len(configs) < 2 else f"{member.entry.task} ({len(configs)} tasks)",
        "all" if limit is None else f"{limit}{' each' if len(configs) > 1 else ''}",
        ", ".join(sorted(shots)),
        ", ".join(listed),
    ]


def _lacks(member: Member, hub: HubData) -> list[str]:
    try:
        for name, config in member.configs().items():
            hub.revision(name, config)
    except InputError as error:
        return [error.what]
    return []
