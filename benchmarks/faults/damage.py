"""Damaged files: a bit flipped, the end cut off, the file gone; under `verify`, `table` and the next `run`."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from benchmarks.equal_bytes import differing
from benchmarks.faults.trial import Trial, ended, run_here
from sphere_core.foundation.storage import Storage
from workflows.moments.check import file_faults
from workflows.results.sql.sweep_roots import SweepRoot
from workflows.results.tables.table import results_table
from workflows.store.plan import read_plan
from workflows.store.verification import repair, verify

__all__ = ["damaged_files"]

How = Literal["flip", "truncate", "delete"]
HOWS: tuple[How, ...] = ("flip", "truncate", "delete")
# One kind of file each; files of one round are of different kinds, so that faults can be kept apart.
KINDS = (
    "rows/edit_quality/*.parquet",
    "rows/geometry/*.parquet",
    "details/*/*.parquet",
    "trajectories/*/checkpoints/*/weights.safetensors",
    "trajectories/*/checkpoints/*/state.safetensors",
    "trajectories/*/checkpoints/*/manifest.json",
    "moments/*.safetensors",
    "timings/*/*.json",
    "trajectories/*/lease.json",
    "trajectories/*/progress.json",
    "trajectories/*/attempts/*.json",
    "trajectories/*/spec.json",
)


def _damage(path: Path, how: How, choice: random.Random) -> None:
    data = bytearray(path.read_bytes())
    if how == "flip":
        place = choice.randrange(len(data))
        data[place] ^= 1 << choice.randrange(8)
    elif how == "truncate":
        del data[choice.randrange(len(data)) :]
    if how == "delete":
        path.unlink()
    else:
        path.write_bytes(bytes(data))


def _numbers(root: Path) -> dict[Any, Any]:
    """Return every number of the table by its place, without those of its rounding."""
    storage = Storage(root)
    table = results_table(SweepRoot.of(storage, read_plan(storage)), by_edits=True)
    return {
        (row.model, row.stream, row.method, row.edits, name): repr(cell)
        for row in table.rows
        for name, cell in row.cells.items()
    }


def damaged_files(sweep: Path, alone: Path, folder: Path, *, count: int, choice: random.Random) -> Iterator[Trial]:
    """Damage `count` files of copies of a finished sweep, one kind each per copy, and see what every command makes of
    them."""
    done = 0
    while done < count:
        kinds = list(KINDS)[: count - done]
        root = folder / f"damaged-{done}"
        shutil.copytree(alone, root)
        hurt = {}
        for place, kind in enumerate(kinds):
            path = choice.choice(sorted(root.glob(kind)))
            how = HOWS[(done + place) % len(HOWS)]
            _damage(path, how, choice)
            hurt[path.relative_to(root).as_posix()] = how
        yield from _judged(sweep, alone, root, hurt)
        done += len(kinds)


def _judged(sweep: Path, alone: Path, root: Path, hurt: dict[str, How]) -> Iterator[Trial]:
    wrong: dict[str, list[str]] = {name: [] for name in hurt}
    storage = Storage(root)
    found = list(verify(storage, of_moments=file_faults))
    named = {one.path for one in found}
    for name, how in hurt.items():
        # JSON has no digest: a flip may leave another valid text, and nothing marks what is gone.
        unseen = how == "delete" or (name.endswith(".json") and how == "flip")
        if name not in named and not unseen:
            wrong[name].append("verify does not name it")
    truth, shown = _numbers(alone), _numbers(root)
    changed = [place for place, value in shown.items() if truth.get(place) != value]
    for one in found:
        repair(storage, one)
    code = ended(lambda: run_here(sweep, root))
    different = differing(alone, root)
    for name, how in hurt.items():
        if name.startswith(("rows/", "details/")) and changed:
            wrong[name].append(f"the table shows other numbers: {changed[:2]}")
        if code:
            wrong[name].append(f"the next run ends with {code}")
        # Tensors that are gone while their manifest is there were trimmed, as `keep` does: nothing is missing.
        if name in different and not (how == "delete" and name.endswith(".safetensors")):
            wrong[name].append("the next run did not make it again")
    for name, how in hurt.items():
        yield Trial("damaged file", f"{how} {name}", "; ".join(wrong[name]))
