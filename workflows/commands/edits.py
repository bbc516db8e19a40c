"""`sphere edits`: the history of single edits, and those that were lost most often."""

from typing import Annotated

import typer

from sphere_core.foundation.storage import Storage
from workflows.commands.output_options import FormatOption, JsonOption, OutOption, WideOption
from workflows.commands.probe_options import Role
from workflows.results.formats.arrow_answer import arrow_answer
from workflows.results.formats.columns import EDIT_COLUMNS
from workflows.results.formats.output import write_answer
from workflows.results.formats.output_format import chosen_format
from workflows.results.sql.connect import connect
from workflows.results.tables.edit_lives import EditChoice, edit_lives, forgotten_edits
from workflows.store.plan import read_plan
from workflows.terminal.console import output_console

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere edits runs/quickstart               the most forgotten edits
  sphere edits runs/quickstart --subject "Leral Galock"
                                             one subject's, over checkpoints
  sphere edits runs/quickstart --case 160 --method memit
  sphere edits runs/quickstart --subject galock --format csv --out life.csv

A probability is that of all tokens of an answer: of the new one, and of the contrast
(the old one). is_right: every token of the new answer is the argmax.
"""


@app.command(epilog=_EPILOG)
def edits(
    root: Annotated[str, typer.Argument(help="The sweep's folder or URL")],
    subject: Annotated[str, typer.Option(help="Edits whose prompt holds this text, in any case")] = "",
    case: Annotated[str, typer.Option(help="The edit of this case id")] = "",
    edit: Annotated[int | None, typer.Option(min=1, help="The edit at this place of the stream, from 1")] = None,
    method: Annotated[str, typer.Option(help="Of this method alone")] = "",
    role: Annotated[Role, typer.Option(help="Which probes of the edits")] = Role.REWRITE,
    protocol: Annotated[str, typer.Option(help="How probes were scored: correct, paper-memit, ...")] = "correct",
    top: Annotated[int, typer.Option(min=1, help="How many forgotten edits are listed")] = 20,
    form: FormatOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
    wide: WideOption = False,
) -> None:
    """Follow single edits over the checkpoints; without a choice, list those most often learned and lost again."""
    chosen = chosen_format(form, out, as_json=as_json)
    storage = Storage(root)
    plan = read_plan(storage)
    choice = EditChoice(subject, case, edit or 0, method)
    if choice == EditChoice():
        with connect(storage, plan, views=("probes", "edits")) as connection:
            found, _ = forgotten_edits(connection, top=top, role=role.value, protocol=protocol, where=storage.uri)
        title = "learned and lost by most trajectories"
    else:
        found = edit_lives(storage, plan, choice, role=role.value, protocol=protocol)
        title = f"{role.value} probes at every checkpoint"
    write_answer(arrow_answer(found, EDIT_COLUMNS, title=title), output_console(), form=chosen, out=out, wide=wide)
