"""Tasks of general ability, and whether their data can be reached: read from task files alone."""

from collections.abc import Sequence
from dataclasses import dataclass

from evaluators.general.hub_data import HubData, hub_data
from evaluators.general.suites import Member, SuiteResolver, TaskEntry, preset_names, read_preset, shipped_suites
from sphere_core.foundation.errors import InputError
from workflows.terminal.table import Cell, Column, TextTable

__all__ = ["SuiteView", "suite_view", "suites_table"]


@dataclass(frozen=True)
class SuiteView:
    """One entry of `tasks`: its description, its tasks as a table, and the data that cannot be reached."""

    heading: dict[str, str]
    table: TextTable
    missing: tuple[str, ...]


def suites_table() -> TextTable:
    """Return the presets and the suites that ship with the project, with their tasks."""
    rows: list[list[Cell]] = []
    for name in preset_names():
        preset = read_preset(name)
        rows.append([name, preset.title, ", ".join(entry.task for entry in preset.entries())])
    for name in shipped_suites():
        found = SuiteResolver().suite(TaskEntry(task=name)).members
        names = ", ".join(member.entry.task for member in found)
        rows.append([name, "ships with the project, needs no network", names])
    columns = [Column("name"), Column("what it is", prose=True), Column("tasks", prose=True)]
    return TextTable(columns, rows, "general ability")


def suite_view(*, name: str, include_path: Sequence[str] = (), check: bool = False) -> SuiteView:
    """Return what one entry of `tasks` expands to; `check` looks for its data on the hub and in the local cache.

    Names in `include_path` come first. Raises InputError for an unknown name.
    """
    suite = SuiteResolver(list(include_path), where="sphere tasks NAME").suite(TaskEntry(task=name))
    columns = [Column("task"), Column("documents", right=True), Column("examples", 2, right=True)]
    columns += [Column("data set", prose=True), *([Column("can be had")] if check else [])]
    rows: list[list[Cell]] = []
    hub, missing = HubData(), list[str]()
    for member in suite.members:
        lacks = _lacks(member, hub) if check else []
        missing += lacks
        rows.append([*_cells(member), *([not lacks] if check else [])])
    return SuiteView(_heading(name), TextTable(columns, rows, name), tuple(missing))


def _heading(name: str) -> dict[str, str]:
    if name not in preset_names():
        return {}
    preset = read_preset(name)
    return {"title": preset.title, "source": preset.source, "note": preset.note.strip()}


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
