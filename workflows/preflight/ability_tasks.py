"""Tasks of general ability, and whether their data can be reached: read from task files alone."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from evaluators.general.hub_data import HubData, hub_data
from evaluators.general.suites import Member, SuiteResolver, TaskEntry, preset_names, read_preset, shipped_suites
from sphere_core.foundation.errors import InputError

__all__ = ["SuiteView", "suite_view", "suites_table"]


@dataclass(frozen=True)
class SuiteView:
    """One entry of `tasks`: its description, its tasks as a table, and the data that cannot be reached."""

    heading: Text | None
    table: Table
    missing: tuple[str, ...]


def suites_table() -> Table:
    """Return the presets and the suites that ship with the project, with their tasks."""
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


def suite_view(*, name: str, include_path: Sequence[str] = (), check: bool = False) -> SuiteView:
    """Return what one entry of `tasks` expands to; `check` looks for its data on the hub and in the local cache.

    Names in `include_path` come first. Raises InputError for an unknown name.
    """
    suite = SuiteResolver(list(include_path)).suite(TaskEntry(task=name))
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
    return SuiteView(_heading(name), table, tuple(missing))


def _heading(name: str) -> Text | None:
    if name not in preset_names():
        return None
    preset = read_preset(name)
    return Text.assemble((name, "bold"), f": {preset.title}\nsource: {preset.source}\n{preset.note.strip()}")


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
