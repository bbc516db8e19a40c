"""`sphere moments`: build, list, verify, import and compare second moments."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from workflows.commands.moments_build import EPILOG, StoreOption, build
from workflows.commands.output_options import JsonOption, WideOption
from workflows.moments.store import MomentsStore, StoredSet, store_folder
from workflows.store.identifiers import prefix_length
from workflows.terminal.console import output_console, print_json, say
from workflows.terminal.table import Cell, Column, Id, TextTable

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)
app.command(short_help="Build second moments of several layers in one pass", epilog=EPILOG)(build)


@app.callback()
def _moments() -> None:
    """Second moments C0 = E[k k^T] of the inputs of a model's edited weights."""


@app.command(name="list", epilog="\b\nExample:\n  sphere moments list --store /shared/moments")
def list_sets(store: StoreOption = None, as_json: JsonOption = False, wide: WideOption = False) -> None:
    """List the sets in the store: model, sites, corpus, tokens."""
    keeper = MomentsStore(store_folder(store))
    console = output_console()
    sets = keeper.sets()
    digits = prefix_length([stored.key for stored in sets])
    table = TextTable(_SETS, [_cells(stored, digits) for stored in sets], wide=wide)
    if as_json:
        print_json(console, {"store": keeper.storage.uri, "sets": [_record(stored) for stored in sets]})
        return
    if sets:
        console.print(table, soft_wrap=wide)
    say(console, f"{len(sets)} sets in {keeper.storage.uri}")


@app.command(
    short_help="Recompute digests; check that moments can be used",
    epilog="\b\nExamples:\n  sphere moments verify\n  sphere moments verify 3f2a llama3-8b-moments.safetensors",
)
def verify(
    names: Annotated[list[str] | None, typer.Argument(help="Keys or files; default: the whole store")] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Recompute digests; check that moments are finite, symmetric, positive semidefinite. Exit code 1 on a fault."""
    from workflows.moments.check import verify_stored

    console = output_console()
    found = []
    for path, faults in verify_stored(MomentsStore(store_folder(store)), names or []):
        found.append({"path": str(path), "faults": faults})
        if not as_json:
            say(console, f"{path}: {'; '.join(faults) or 'sound'}")
    sound = not any(one["faults"] for one in found)
    if as_json:
        print_json(console, {"sound": sound, "files": found})
    else:
        say(console, f"{len(found)} files")
    raise typer.Exit(0 if sound else 1)


@app.command(
    name="import",
    short_help="Take over statistics of other projects",
    epilog="""\b
Examples:
  sphere moments import stats/wikipedia_stats/*_mom2_100000.npz \\
      --model ./gpt2-xl
  sphere moments import null_space_project.pt --model ./llama3-8b \\
      --layers 4,5,6,7,8

The files do not name their model: the name and digest of --model are recorded without a check. An imported
projector is the null space that AlphaEdit then edits in, whatever nullspace_threshold says.
""",
)
def import_(
    files: Annotated[list[Path], typer.Argument(help="MEMIT's *_mom2_*.npz, or AlphaEdit's null_space_project.pt")],
    model: Annotated[str, typer.Option(help="Model folder, hub id, or 'factworld': what the statistics are of")],
    layers: Annotated[str | None, typer.Option(help="Layers of a projector, in its order")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit or tag of the model's hub id")] = None,
    store: StoreOption = None,
) -> None:
    """Import MEMIT's statistics or AlphaEdit's projector into the store."""
    from workflows.moments.check import import_files

    import_files(MomentsStore(store_folder(store)), files, model, layers, revision, output_console())


@app.command(
    short_help="Show the distance of two statistics of one model",
    epilog="\b\nExample:\n  sphere moments compare 3f2a 91bc --layers 4,5",
)
def compare(
    first: Annotated[str, typer.Argument(help="Key, file or folder")],
    second: Annotated[str, typer.Argument(help="Key, file or folder")],
    layers: Annotated[str | None, typer.Option(help="Only these layers; default: all that both have")] = None,
    threshold: Annotated[
        float, typer.Option(min=0, help="Eigenvalues below it are null space; 2e-2 in AlphaEdit's released settings")
    ] = 2e-2,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the distance of two statistics of one model: entries, spectra, dimensions outside their null spaces."""
    from workflows.moments.check import compare_stored

    console = output_console()
    found = compare_stored(MomentsStore(store_folder(store)), first, second, layers, threshold)
    if as_json:
        print_json(console, {"first": first, "second": second, "threshold": threshold} | asdict(found))
        return
    if found.same_model is False:
        say(console, "these are of two different models or tokenizers", style="yellow")
    names = ("layer", "|A-B|/|A|", "spectra", f"dims >= {threshold:g} in A", "in B", "overlap")
    rows: list[list[Cell]] = [
        [one.layer, f"{one.relative:.2e}", f"{one.spectra:.2e}", *one.outside, f"{one.overlap:.4f}"]
        for one in found.layers
    ]
    console.print(TextTable([Column(name, right=True) for name in names], rows))


_SETS = (
    Column("key"),
    Column("model", prose=True),
    Column("sites", 1, prose=True),
    Column("corpus"),
    Column("tokens", right=True),
    Column("size", 2, right=True),
)


def _record(stored: StoredSet) -> dict[str, object]:
    """Return a set for JSON: numbers as numbers, and None for what an imported set does not say."""
    of = stored.provenance
    return {
        "key": stored.key,
        "model": of.get("model"),
        "dtype": of.get("dtype"),
        "layers": stored.layers,
        "corpus": of.get("corpus_name"),
        "source": of.get("source"),
        "tokens": stored.count or None,
        "bytes": sum(file.size for file in stored.files),
    }


def _cells(stored: StoredSet, digits: int) -> list[Cell]:
    of = stored.provenance
    imported = str(of.get("source", "")).startswith("imported")
    return [
        Id(stored.key, stored.key[:digits]),
        f"{of.get('model', 'unknown')} {of.get('dtype', '')}".strip(),
        f"layers {', '.join(map(str, stored.layers))}",
        "imported" if imported else str(of.get("corpus_name", "unknown")),
        f"{stored.count:,}" if stored.count else None,
        f"{sum(file.size for file in stored.files) / 1e6:,.1f} MB",
    ]
