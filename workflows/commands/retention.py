"""`sphere retention`: what became of every edit."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from workflows.commands.console import output_console
from workflows.commands.table import Format
from workflows.results.formats.table_formats import arrow_csv, arrow_markdown, arrow_parquet
from workflows.store.plan import read_plan

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Tables:
  summary    immediate and final success, share forgotten, retention AUC, one row a method
  curve      success of all edits so far at every checkpoint
  cohorts    the same of the first and of the latest edits (--cohort)
  ages       the same by age: edits written since (--bin, in batches)
  auc        one row a cohort written between two checkpoints: immediate, final, area under its curve
  order      final success by the order of the stream
  edits      one row an edit: installed, strength, when lost, kept
  survival   one row an edit and checkpoint: right or not, margin, age
  predictors what foretells that an edit is lost: strength, age, likeness of
             later keys (needs keep_keys: true in the sweep), Spearman's

Examples:
  sphere retention runs/quickstart
  sphere retention runs/quickstart curve --measure probability
  sphere retention runs/long cohorts --cohort 1000 --role paraphrase
  sphere retention runs/long edits --format parquet --out edits.parquet
  sphere retention runs/long auc --sql

Shares carry Wilson's 95 % interval (low, high). A success is every token of the
target being the argmax, or under --measure probability the new answer being
likelier than the old. Margin: NLL of the contrast less NLL of the target.
"""
_ROWS_SHOWN = 60


class Table(Enum):
    """What is asked."""

    SUMMARY = "summary"
    CURVE = "curve"
    COHORTS = "cohorts"
    AGES = "ages"
    AUC = "auc"
    ORDER = "order"
    EDITS = "edits"
    SURVIVAL = "survival"
    PREDICTORS = "predictors"


class Role(Enum):
    """Which probes are asked."""

    REWRITE = "rewrite"
    PARAPHRASE = "paraphrase"
    NEIGHBORHOOD = "neighborhood"
    PORTABILITY = "portability"


class Measure(Enum):
    """When an answer counts as right."""

    ARGMAX = "argmax"
    PROBABILITY = "probability"


@app.command(epilog=_EPILOG)
def retention(
    root: Annotated[str, typer.Argument(help="The sweep's folder or URL")],
    name: Annotated[Table, typer.Argument(metavar="[TABLE]", help="Which table; see below")] = Table.SUMMARY,
    role: Annotated[Role, typer.Option(help="Which probes of the edits")] = Role.REWRITE,
    measure: Annotated[Measure, typer.Option(help="When an answer counts as right")] = Measure.ARGMAX,
    protocol: Annotated[str, typer.Option(help="How probes were asked: correct, paper-memit, ...")] = "correct",
    cohort: Annotated[int | None, typer.Option(min=1, help="Size of cohorts; default: a checkpoint interval")] = None,
    width: Annotated[
        int | None, typer.Option("--bin", min=1, help="Batches in an age bin; default: a checkpoint interval")
    ] = None,
    sql: Annotated[bool, typer.Option("--sql", help="Print the query instead of its answer")] = False,
    form: Annotated[Format, typer.Option("--format", help="md, csv or parquet")] = Format.MARKDOWN,
    out: Annotated[Path | None, typer.Option(help="File to write; default: the terminal")] = None,
) -> None:
    """Follow edits over the checkpoints: forgetting curves, cohorts, ages, survival of every edit."""
    from workflows.results.tables.retention import RetentionAsk, retention_sql, retention_table

    console = output_console()
    asked = RetentionAsk(name.value, role.value, protocol, measure.value, cohort, width)
    if sql:
        console.out(retention_sql(asked), end="", highlight=False)
        return
    if form is Format.PARQUET and out is None:
        raise InputError("a Parquet table needs a file", where="--format parquet", remedy="add --out FILE.parquet")
    storage = Storage(root)
    storage.require_reachable()
    found = retention_table(storage, read_plan(storage), asked)
    if form is Format.PARQUET:
        data = arrow_parquet(found)
    elif form is Format.CSV:
        data = arrow_csv(found).encode()
    else:
        data = arrow_markdown(found, shown=None if out is not None else _ROWS_SHOWN).encode()
    if out is None:
        console.out(data.decode(), end="", highlight=False)
    else:
        out.write_bytes(data)
