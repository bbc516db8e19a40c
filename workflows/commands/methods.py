"""`sphere methods`: the table of methods, and one method's hyperparameters with their sources."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, NamedTuple

import typer

from sphere_core.hyperparameters import preset_names, preset_sources
from sphere_core.methods import EDITORS, REGULARIZERS, Method, resolve_method
from sphere_core.plugins import Plugins
from workflows.commands.output_options import JsonOption, WideOption
from workflows.commands.plugin_option import PluginOption
from workflows.terminal.console import output_console, print_json, say
from workflows.terminal.table import Column, TextTable

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere methods                            every editor and regularizer
  sphere methods memit+rect+sphere          what it composes, needs and keeps
  sphere methods memit+cap --plugin cap.py  a row of your own
  sphere methods alphaedit+sphere --preset llama3-8b
                                            its hyperparameters, with sources

A method is an editor, with regularizers after plus signs, applied in that order.
"""

_DEFERS = "as the editor"
_NEVER = "never"


@app.command(epilog=_EPILOG)
def methods(
    name: Annotated[str | None, typer.Argument(help="A method, such as alphaedit+sphere")] = None,
    preset: Annotated[str, typer.Option(help="Preset whose hyperparameters are shown")] = "factworld",
    plugin: PluginOption = None,
    as_json: JsonOption = False,
    wide: WideOption = False,
) -> None:
    """List the table of methods, or show one method with its hyperparameters."""
    console = output_console()
    plugins = Plugins.of_files(plugin or (), where="--plugin")
    outside = {kind: plugins.names(kind) for kind in ("editor", "regularizer")}
    if name is None:
        tables = {"editors": _editors(), "regularizers": _regularizers()}
        extra: dict[str, object] = {"presets": preset_names(), "plugins": outside}
    else:
        method = resolve_method(name, plugins=plugins)
        values = _values(method, preset)
        tables = {"method": _description(method), "hyperparameters": _hyperparameters(values, preset)}
        extra = {"name": name, "preset": preset, "hyperparameters": [value._asdict() for value in values]}
    if as_json:
        print_json(console, {key: table.records() for key, table in tables.items()} | extra)
        return
    for place, table in enumerate(tables.values()):
        if place:
            console.print()
        console.print(replace(table, wide=wide), soft_wrap=wide)
    if name is None:
        say(console, f"presets: {', '.join(preset_names())}")
        for kind, names in outside.items():
            if names:
                say(console, f"{kind}s of plugins, not of this release: {', '.join(names)}")


def _editors() -> TextTable:
    columns = [
        Column("name"),
        Column("what it is", prose=True),
        Column("regularizers act", 1),
        Column("checkpoint keeps", 3, prose=True),
        Column("paper", 2, prose=True),
    ]
    rows = [
        [name, row.title, row.scope.value if row.writes_requests else _NEVER, row.state, row.paper]
        for name, row in EDITORS.items()
    ]
    return TextTable(columns, rows, "editors")


def _regularizers() -> TextTable:
    columns = [
        Column("name"),
        Column("what it is", prose=True),
        Column("acts", 1),
        Column("needs", 4, prose=True),
        Column("checkpoint keeps", 3, prose=True),
        Column("paper", 2, prose=True),
    ]
    rows = [
        [name, row.title, _DEFERS if row.scope is None else row.scope.value, row.needs, row.state, row.paper]
        for name, row in REGULARIZERS.items()
    ]
    return TextTable(columns, rows, "regularizers")


def _description(method: Method) -> TextTable:
    pairs = [("editor", method.editor_row.title)]
    for name, row in zip(method.regularizer_names, method.regularizer_rows, strict=True):
        pairs.append(("regularizer", f"{name}: {row.title}"))
    pairs += [("code", f"{row}: {plugin.short}, not of this release") for row, plugin in method.code.items()]
    pairs += [("papers", method.paper), ("checkpoint keeps", method.state)]
    return TextTable([Column("part"), Column("what it is", prose=True)], pairs, method.name)


class _Value(NamedTuple):
    """A hyperparameter as its preset or its plugin gives it: a number, a text, a list, None."""

    hyperparameter: str
    value: object
    source: str


def _values(method: Method, preset: str) -> list[_Value]:
    sources = preset_sources(preset, method.preset_editor, method.released_regularizers)
    values = [_Value(key, value, source) for key, (value, source) in sources.items()]
    return values + [_Value(f"{row}.{key}", value, source) for row, key, value, source in method.own_settings()]


def _hyperparameters(values: Sequence[_Value], preset: str) -> TextTable:
    columns = [Column("hyperparameter"), Column("value", prose=True), Column("source", 1, prose=True)]
    rows = [[one.hyperparameter, str(one.value), one.source] for one in values]
    return TextTable(columns, rows, f"hyperparameters on {preset}")
