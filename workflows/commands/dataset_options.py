"""The options by which `sphere order` and `sphere data` name a data set."""

from typing import Annotated

import typer

from sphere_core.datasets.sources import DatasetSpec
from sphere_core.foundation.errors import unknown_name
from sphere_core.foundation.validation import validated

__all__ = [
    "ConfigOption",
    "DatasetArgument",
    "FileOption",
    "HubOption",
    "IncompleteOption",
    "PathOption",
    "RevisionOption",
    "SplitOption",
    "TargetOption",
    "named_dataset",
    "one_of",
]

DatasetArgument = Annotated[
    str,
    typer.Argument(
        help="Schema: counterfact, multi_counterfact, counterfact_plus, zsre, mquake, knowedit, wikibigedit, "
        "ripple_edits, unke, akew, easyedit, facts, or factworld"
    ),
]
PathOption = Annotated[str | None, typer.Option(help="JSON, JSON lines, Parquet or CSV file")]
HubOption = Annotated[str | None, typer.Option(help="Hub id (owner/name), in place of --path")]
RevisionOption = Annotated[str | None, typer.Option(help="Commit or tag of the hub id")]
ConfigOption = Annotated[str | None, typer.Option(help="Configuration of the hub id")]
SplitOption = Annotated[str | None, typer.Option(help="Split of the hub id")]
FileOption = Annotated[str | None, typer.Option(help="One file of the hub's repository, read as it is")]

TargetOption = Annotated[
    str | None, typer.Option(help="zsRE: edit to 'answers' (as in MEMIT; the default) or to 'alt' (EasyEdit)")
]
IncompleteOption = Annotated[
    str, typer.Option(help="Records without a target or with an unclear subject: 'refuse' or 'skip' them")
]


def one_of(option: str, value: str, choices: tuple[str, ...]) -> str:
    """Return an option's value if it is among its choices; raises InputError with the nearest one otherwise."""
    if value not in choices:
        raise unknown_name("value", value, choices, where=option)
    return value


def named_dataset(dataset: str, **options: str | None) -> DatasetSpec:
    """Return the data set that a command line names; raises InputError if its options do not fit together."""
    return validated(DatasetSpec, {"dataset": dataset, **options}, where="command line")
