"""`sphere retention`: the history of every edit."""

from enum import Enum
from typing import Annotated

import typer

from workflows.commands.output_options import FormatOption, JsonOption, OutOption, WideOption
from workflows.commands.probe_options import Measure, Role
from workflows.results.formats.arrow_answer import arrow_answer
from workflows.results.formats.columns import RETENTION_COLUMNS
from workflows.results.formats.output import write_answer
from workflows.results.formats.output_format import chosen_format
from workflows.results.sql.sweep_roots import open_roots
from workflows.terminal.console import output_console

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Tables:
  summary    immediate and final success, share forgotten, retention AUC,
             one row per method
  curve      success of all edits so far at every checkpoint
  cohorts    the same of the first and of the latest edits (--cohort)
  ages       the same by age: edits written since (--bin, in batches)
  origins    success of the edits between two checkpoints, at each later one
  auc        one row per cohort written between two checkpoints: immediate,
             final, area under its curve
  order      final success by the order of the stream
  edits      one row per edit: installed, strength, when lost, kept
  survival   one row per edit and checkpoint: right or not, margin, age
  predictors what predicts that an edit is lost: strength, age, similarity of
             later keys (requires keep_keys: true in the sweep), Spearman's
  finetune   what fine-tuning leaves of the edits, beside facts that the
             unedited model knows (requires afterwards: in the sweep)

\b
Examples:
  sphere retention runs/quickstart
  sphere retention runs/quickstart curve --measure probability
  sphere retention runs/long cohorts --cohort 1000 --role paraphrase
  sphere retention runs/long edits --format parquet --out edits.parquet
  sphere retention runs/long auc --sql
  sphere retention runs/finetune finetune --role paraphrase

Shares carry Wilson's 95 % interval (low, high). A success is every token of the
target being the argmax, or under --measure probability the new answer being
likelier than the old. Margin: NLL of the contrast less NLL of the target.
"""


class Table(Enum):
    """The table to show."""

    SUMMARY = "summary"
    CURVE = "curve"
    COHORTS = "cohorts"
    AGES = "ages"
    ORIGINS = "origins"
    AUC = "auc"
    ORDER = "order"
    EDITS = "edits"
    SURVIVAL = "survival"
    PREDICTORS = "predictors"
    FINETUNE = "finetune"


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
    form: FormatOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
    wide: WideOption = False,
) -> None:
    """Follow edits over the checkpoints: forgetting curves, cohorts, ages, survival of every edit."""
    from workflows.results.tables.retention import RetentionAsk, retention_sql, retention_table

    console = output_console()
    asked = RetentionAsk(name.value, role.value, protocol, measure.value, cohort, width)
    if sql:
        console.out(retention_sql(asked), end="", highlight=False)
        return
    chosen = chosen_format(form, out, as_json=as_json)
    found = retention_table(open_roots([root]), asked)
    answer = arrow_answer(found, RETENTION_COLUMNS, title=f"{name.value}: {role.value} probes, {measure.value}")
    write_answer(answer, console, form=chosen, out=out, wide=wide)
