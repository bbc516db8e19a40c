"""`sphere ability`: general ability task by task."""

from typing import Annotated

import typer

from workflows.commands.output_options import By, FormatOption, JsonOption, OutOption, WideOption
from workflows.results.formats.arrow_answer import arrow_answer
from workflows.results.formats.columns import ABILITY_COLUMNS
from workflows.results.formats.output import write_answer
from workflows.results.formats.output_format import chosen_format
from workflows.results.sql.sweep_roots import open_roots
from workflows.results.tables.ability import ability_table
from workflows.terminal.console import output_console

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere ability runs/quickstart         at each trajectory's last checkpoint
  sphere ability runs/quickstart --by edits --task gsm8k
                                         one task along the way

low and high: the 95 % interval of the score (Wilson's for shares, Student's for
means). change: the mean difference to the unedited model on the same documents,
with its interval and the p of no change: McNemar's exact test for shares, a
paired t-test otherwise. Of a perplexity, the change of its logarithm. A score
that says nothing is collapsed, one whose scorer raised failed; neither has a
number.
"""


@app.command(epilog=_EPILOG)
def ability(
    root: Annotated[str, typer.Argument(help="The sweep's folder or URL")],
    by: Annotated[By, typer.Option(help="The last checkpoint of each trajectory, or every one")] = By.METHOD,
    task: Annotated[str | None, typer.Option(help="Only this task or group")] = None,
    form: FormatOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
    wide: WideOption = False,
) -> None:
    """Show each task's score with its interval, and its change from the unedited model."""
    chosen = chosen_format(form, out, as_json=as_json)
    (opened,) = open_roots([root])
    found = ability_table(opened, by_edits=by is By.EDITS, task=task)
    answer = arrow_answer(found, ABILITY_COLUMNS, title="general ability")
    write_answer(answer, output_console(), form=chosen, out=out, wide=wide)
