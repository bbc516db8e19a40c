"""Check every file of a sweep: digests of rows and of checkpoints, the form of records."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
from pydantic import ValidationError

from sphere_core.checkpoint_files import MANIFEST, Manifest
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.parquet import parquet_table
from sphere_core.foundation.storage import Storage
from sphere_core.trajectory_spec import TrajectorySpec
from workflows.store.layout import (
    COMPACTED,
    DETAILS,
    KEPT_SCORES,
    LEASE_FILE,
    MOMENTS,
    PLAN_FILE,
    PROGRESS_FILE,
    ROWS,
    SPEC_FILE,
    SWEEP_FILE,
    TIMINGS,
    TRAJECTORIES,
    checkpoint_in,
)

__all__ = ["Damage", "repair", "verify"]

_RUN_AGAIN = "run the sweep again: it writes this file"
_REPAIRED = "'sphere verify ROOT --repair' removes it; the next 'sphere run' makes it again"

_WRITTEN_AGAIN = "remove this file: the next 'sphere run' of its sweep writes it; the edits stay"


@dataclass(frozen=True)
class Damage:
    """A file that does not hold what it should; `removes` are the paths whose removal makes the next run repeat it."""

    path: str
    why: str
    removes: tuple[str, ...]

    @property
    def remedy(self) -> str:
        """What to do about it."""
        if self.removes:
            return _REPAIRED
        if _is_record(self.path, SPEC_FILE) or _is_record(self.path, LEASE_FILE):
            return _WRITTEN_AGAIN
        return _RUN_AGAIN if self.path == PLAN_FILE else "restore it from a copy, or remove its trajectory's folder"


def verify(
    storage: Storage,
    *,
    of_moments: Callable[[Path], list[str]] = lambda path: [],
    on_file: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Damage]:
    """Yield what is damaged below a sweep's root, in the order of paths; writes nothing.

    Reads every file whole. Parquet: against the digest in its footer (files of releases before it are only decoded).
    Checkpoints: every tensor file against the sha256 in its manifest; one without any tensors was trimmed.
    A specification: against the name of its trajectory; other JSON records have no digest: their form is checked.
    `of_moments` returns what is wrong with a local file of second moments; it loads torch, and is called only if there
    is one. `on_file` receives how many files are done, and of how many. Raises StorageError if storage fails, and
    InputError if there is no file of a sweep.
    """
    paths = storage.list()
    if not any(
        path in (PLAN_FILE, SWEEP_FILE) or path.partition("/")[0] in (ROWS, TRAJECTORIES, MOMENTS) for path in paths
    ):
        raise InputError(
            "no sweep here: no plan, no trajectory, no rows, no second moments",
            where=storage.uri,
            remedy="give the folder of a sweep (runs/NAME)",
        )
    for done, path in enumerate(paths, 1):
        try:
            if path.startswith(f"{MOMENTS}/") and path.endswith(".safetensors"):
                with storage.as_file(path) as local:
                    why = "; ".join(of_moments(local)) or None
            else:
                why = _fault(storage, path)
        except FileNotFoundError:
            # Removed since it was listed, by a run or by `gc`.
            why = None
        if why is not None:
            yield Damage(path, why, _removed_with(path, paths))
        on_file(done, len(paths))


def repair(storage: Storage, damage: Damage) -> None:
    """Remove what is damaged with all that depends on it, so that the next run makes it again; a second call does
    nothing."""
    for path in damage.removes:
        storage.delete(path)


def _fault(storage: Storage, path: str) -> str | None:
    """Return what is wrong with one file, or None."""
    if checkpoint_in(path) is not None:
        return _checkpoint_fault(storage, path)
    # Read first: a file that storage fails to deliver is not damaged.
    data = storage.read_bytes(path)
    match PurePosixPath(path).suffix:
        case ".parquet":
            try:
                parquet_table(data)
            except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
                return f"cannot be read: {_line(error)}"
        case ".json":
            try:
                json.loads(data)
            except ValueError as error:
                return f"not valid JSON: {_line(error)}"
            if _is_record(path, SPEC_FILE):
                return _specification_fault(data, PurePosixPath(path).parent.name)
    return None


def _is_record(path: str, name: str) -> bool:
    """Return whether a path is that of the file `name` of a trajectory."""
    parts = path.split("/")
    return len(parts) == 3 and (parts[0], parts[2]) == (TRAJECTORIES, name)


def _specification_fault(data: bytes, name: str) -> str | None:
    """Return what is wrong with a specification, whose digest is its trajectory's name, or None."""
    try:
        found = TrajectorySpec.model_validate_json(data).id
    except ValidationError:
        return "not a specification of this version, or damaged"
    return None if found == name else f"it is that of another trajectory ({found}): its values have changed"


def _checkpoint_fault(storage: Storage, path: str) -> str | None:
    folder, _, name = path.rpartition("/")
    try:
        manifest = Manifest.decode(storage.read_bytes(f"{folder}/{MANIFEST}"))
    except FileNotFoundError:
        # An attempt that was killed; `gc` removes it.
        return None
    except ValueError as error:
        return f"its manifest cannot be read: {_line(error)}" if name == MANIFEST else None
    if name == MANIFEST:
        missing = [file for file in manifest.files if not storage.exists(f"{folder}/{file}")]
        is_trimmed = len(missing) == len(manifest.files)
        return f"{', '.join(missing)} beside it is missing" if missing and not is_trimmed else None
    if name not in manifest.files:
        return None
    matches = hashlib.sha256(storage.read_bytes(path)).hexdigest() == manifest.files[name]
    return None if matches else "does not match the digest in its manifest"


def _removed_with(path: str, paths: list[str]) -> tuple[str, ...]:
    """Return what must go so that a run makes a file again; nothing for records that no run makes again."""
    top, _, rest = path.partition("/")
    if checkpoint_in(path) is not None:
        folder = path.rpartition("/")[0]
        # The manifest first: without it the other files do not count as a checkpoint.
        return (f"{folder}/{MANIFEST}", *(one for one in paths if one.startswith(f"{folder}/")))
    if top in (ROWS, DETAILS):
        # One evaluation of one subject: its rows are written again only if they are missing, and details with them.
        name = path.rpartition("/")[2]
        return tuple(one for one in paths if one.partition("/")[0] in (ROWS, DETAILS) and one.endswith(f"/{name}"))
    if top in (COMPACTED, KEPT_SCORES, MOMENTS, TIMINGS) or rest.endswith(f"/{PROGRESS_FILE}"):
        return (path,)
    return ()


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]
