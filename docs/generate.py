"""Fill in pages from the code, as a hook of mkdocs: a line `<!-- generated: NAME -->` of a page is replaced by
what the function `GENERATED[NAME]` returns."""

import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from published_tables import published_cells
from settings_tables import BAR, evaluator_fields, field_table, fields_without_description, file_fields, prose
from typer.testing import CliRunner

from sphere_core.hyperparameters import Hyperparameters
from sphere_core.solver.forms import FORMS, REFUSED
from workflows import cli
from workflows.results.layouts.layout import Layout
from workflows.results.sql.view_columns import VIEW_COLUMNS
from workflows.store.row_schema import COLUMN_DESCRIPTIONS, ROW_SCHEMA
from workflows.sweeps.spec import SweepSpec

__all__ = ["GENERATED", "commands", "fields_without_description", "filled_in", "on_files", "on_page_markdown"]

ROOT = Path(__file__).resolve().parent.parent
HELP_WIDTH = 100
MARKER = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)
# Pages of the site that are files at the root of the repository. Links to them are written as in the repository.
ROOT_PAGES = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
# The modules of the Python API; what their `__all__` names is documented.
API_MODULES = (
    "workflows.api",
    "sphere_core.models",
    "sphere_core.methods",
    "sphere_core.streams.stream",
    "sphere_core.trajectory",
    "sphere_core.checkpoints",
    "sphere_core.export",
    "evaluators.registry",
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are files at the root, with their links into docs/ as links of the site."""
    for page, name in ROOT_PAGES.items():
        content = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in a page; raises KeyError for a marker that names nothing. A mean and its spread stay on one line."""
    return filled_in(site_links(markdown, page.file.src_uri)).replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")


def site_links(markdown: str, address: str) -> str:
    """Return a page's text with its links to files at the root as links to their pages; `address` is below docs/."""
    up = "../" * address.count("/")
    for page, name in ROOT_PAGES.items():
        markdown = markdown.replace(f"]({up}../{name}", f"]({up}{page}")
    return markdown


def filled_in(markdown: str) -> str:
    """Return a page's text with every marker replaced by what is generated under its name."""
    return MARKER.sub(lambda found: GENERATED[found[1]](), markdown)


# Commands: what --help prints.


def command_help() -> str:
    """Return the help of `sphere` and of every command, as a terminal shows it."""
    return "\n".join(
        f"## {' '.join(('sphere', *words))}\n\n```text\n{help_text(words)}\n```\n" for words in [(), *commands()]
    )


def commands() -> list[tuple[str, ...]]:
    """Return the words of every command, a group before what it holds."""
    return list(_below(typer.main.get_command(cli.app), ()))


def _below(group: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    context = group.make_context("sphere", [], resilient_parsing=True)
    for name in group.list_commands(context):
        _, command, _ = group.resolve_command(context, [name])
        yield (*words, name)
        if hasattr(command, "list_commands"):
            yield from _below(command, (*words, name))


def help_text(words: tuple[str, ...], width: int = HELP_WIDTH) -> str:
    """Return what `--help` prints on a terminal of a width, without colours; raises RuntimeError if it fails."""
    environment = {"COLUMNS": str(width), "TERMINAL_WIDTH": str(width), "NO_COLOR": "1", "TERM": "dumb"}
    result = CliRunner().invoke(cli.app, [*words, "--help"], prog_name="sphere", env=environment)
    if result.exit_code:
        raise RuntimeError(f"sphere {' '.join(words)} --help failed: {result.output}")
    return result.output.strip()


def row_columns() -> str:
    """Return the columns of a row file as a Markdown table."""
    lines = ["| column | type | null | |", "|---|---|---|---|"]
    for field in ROW_SCHEMA:
        null = "yes" if field.nullable else ""
        lines.append(f"| `{field.name}` | {field.type} | {null} | {prose(COLUMN_DESCRIPTIONS[field.name])} |")
    return "\n".join(lines) + "\n"


def views() -> str:
    """Return the public views, a section for each: what one row is, and its columns."""
    text = "## Views\n"
    for name, view in VIEW_COLUMNS.items():
        text += f"\n### `{name}`\n\nOne row for {view.one_row}.\n\n| column | type | |\n|---|---|---|\n"
        rows = ((column, kind, prose(meaning.replace("|", BAR))) for column, (kind, meaning) in view.columns.items())
        text += "".join(f"| `{column}` | {kind} | {meaning} |\n" for column, kind, meaning in rows)
    return text


# Solver: its forms, chosen by size.


def solver_forms() -> str:
    """Return the exact forms of the solver and what it refuses, as Markdown tables."""
    lines = ["| form | chosen | factors | a batch costs | its residual is that of |", "|---|---|---|---|---|"]
    for name, form in FORMS.items():
        cells = (name, form.when, f"`{form.factors}`", f"`{form.cost}`", f"`{form.residual}`")
        lines.append("| " + " | ".join(cell.replace("|", BAR) for cell in cells) + " |")
    lines += ["", "## What is refused", "", "| the error says that a matrix | because |", "|---|---|"]
    lines += [f"| {name} | {prose(reason)} |" for name, reason in REFUSED.items()]
    return "\n".join(lines) + "\n"


# Python API: signatures and docstrings.


def python_api() -> str:
    """Return signature and docstring of everything that the modules of the API export."""
    return "\n".join(module_section(name) for name in API_MODULES)


def module_section(name: str) -> str:
    """Return one module: its docstring, then what its `__all__` names."""
    module = importlib.import_module(name)
    exported = {key: getattr(module, key) for key in module.__all__}
    sections = [f"## `{name}`\n\n{prose(inspect.getdoc(module))}\n"]
    for key, value in exported.items():
        if not callable(value):
            continue
        sections.append(f"### {key}\n\n```python\n{signature(key, value)}\n```\n\n{prose(inspect.getdoc(value))}\n")
        sections += [
            f"**`.{method}`**\n\n```python\n{signature(method, function)}\n```\n\n{prose(inspect.getdoc(function))}\n"
            for method, function in public_methods(value)
        ]
    return "\n".join(sections)


def public_methods(value: Any) -> list[tuple[str, Any]]:
    """Return the documented methods that a class of this project defines itself."""
    if not inspect.isclass(value):
        return []
    return [
        (name, function)
        for name, function in vars(value).items()
        if inspect.isfunction(function) and not name.startswith("_") and function.__doc__
    ]


def signature(name: str, value: Any) -> str:
    """Return a signature without the modules of its types; one argument per line where it is long."""
    try:
        text = f"{name}{inspect.signature(value)}"
    except (TypeError, ValueError):
        return name
    text = re.sub(r"\b(?:\w+\.)+(?=[A-Z])", "", text)
    # A default that is a function would be shown by its address, which differs from build to build.
    text = re.sub(r"<function [^>]*(?:<lambda>)?[^>]* at 0x[0-9a-f]+>", "...", text)
    if len(text) <= 100:
        return text
    inner, _, returns = text[len(name) + 1 :].rpartition(")")
    return f"{name}(\n    " + re.sub(r", (?=\*|\w+: )", ",\n    ", inner) + f",\n){returns}"


GENERATED: dict[str, Callable[[], str]] = {
    "sweep_fields": partial(file_fields, SweepSpec),
    "layout_fields": partial(file_fields, Layout),
    "evaluator_fields": evaluator_fields,
    "hyperparameter_fields": partial(field_table, Hyperparameters),
    "command_help": command_help,
    "row_columns": row_columns,
    "views": views,
    "python_api": python_api,
    "solver_forms": solver_forms,
    "published_cells": published_cells,
}
