"""`sphere data`: reads a data set as a sweep would, and says what is in it."""

import typer
from rich.table import Table

from sphere_core.datasets.sources import read_dataset
from workflows.commands.console import output_console
from workflows.commands.dataset_options import (
    ConfigOption,
    DatasetArgument,
    FileOption,
    HubOption,
    PathOption,
    RevisionOption,
    SplitOption,
    named_dataset,
)
from workflows.preflight.dataset import dataset_facts

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere data multi_counterfact --path multi_counterfact.json
  sphere data zsre --path zsre_mend_eval.json
  sphere data mquake --hub henryzhongsc/MQuAKE-Remastered --revision main --split CF3k
  sphere data facts --path my-facts.csv

Every record is checked; the first fault is told with file, record and field. Put the sha256 into the sweep file to
pin it: `streams: [{dataset: facts, path: my-facts.csv, sha256: ..., edits: 100}]`.
"""


@app.command(epilog=_EPILOG)
def data(
    dataset: DatasetArgument,
    path: PathOption = None,
    hub: HubOption = None,
    revision: RevisionOption = None,
    config: ConfigOption = None,
    split: SplitOption = None,
    file: FileOption = None,
) -> None:
    """Check every record of a data set and show what is in it: counts, hash, probes by role, edits that repeat or
    contradict each other."""
    spec = named_dataset(dataset, path=path, hub=hub, revision=revision, config=config, split=split, file=file)
    found = read_dataset(spec)
    table = Table(title=spec.name, title_justify="left", show_header=False, box=None)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in dataset_facts(spec, found):
        table.add_row(name, value)
    console = output_console()
    console.print(table)
    first = found.records[0].requests[0]
    console.print(f"first: {first.question!r} -> {first.target_new!r}", highlight=False, markup=False)
