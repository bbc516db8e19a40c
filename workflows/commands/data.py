"""`sphere data`: read a data set as a sweep would, and report its content."""

import typer

from sphere_core.datasets.sources import read_dataset
from sphere_core.plugins import Plugins
from workflows.commands.dataset_options import (
    ConfigOption,
    DatasetArgument,
    FileOption,
    HubOption,
    IncompleteOption,
    PathOption,
    RevisionOption,
    SplitOption,
    TargetOption,
    named_dataset,
)
from workflows.commands.output_options import JsonOption
from workflows.commands.plugin_option import PluginOption
from workflows.preflight.dataset import dataset_record, dataset_table
from workflows.terminal.console import output_console, print_json

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere data multi_counterfact --path multi_counterfact.json
  sphere data zsre --path zsre_mend_eval.json
  sphere data mquake --hub henryzhongsc/MQuAKE-Remastered \\
      --revision main --split CF3k
  sphere data facts --path my-facts.csv

Every record is checked; the first fault is shown with file, record and field. Put the sha256 into the sweep file to
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
    target: TargetOption = None,
    incomplete: IncompleteOption = "refuse",
    plugin: PluginOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check every record of a data set and show counts, hash, probes by role, repeated and contradicting edits."""
    source = {"path": path, "hub": hub, "revision": revision, "config": config, "split": split, "file": file}
    spec = named_dataset(dataset, **source, target=target, incomplete=incomplete)
    plugins = Plugins.of_files(plugin or (), where="--plugin")
    record = dataset_record(spec, read_dataset(spec, plugins), plugins)
    console = output_console()
    if as_json:
        print_json(console, record)
    else:
        console.print(dataset_table(spec, record))
