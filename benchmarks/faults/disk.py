"""A disk that fills up under the real writer: half a file is written, then nothing more."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.equal_bytes import differing
from benchmarks.faults.trial import Trial, run_here
from sphere_core.foundation.storage import Storage
from workflows.store.state import derive_state
from workflows.sweeps.expand import load_sweep

__all__ = ["full_disks"]

# What is being written when the disk is full, by a part of its path.
PLACES = {
    "moments": "/moments/",
    "null space": "/moments/nullspace-",
    "checkpoint": "/weights.safetensors",
    "rows": "/rows/",
}


@contextmanager
def _full_at(part: str) -> Iterator[list[str]]:
    """Fill the disk at the first file whose path holds `part`, from then on for every file; yields those refused."""
    publish, refused = Storage._publish, []

    def half(storage: Storage, target: Path, write: Callable[[Path], object], *guard: Callable[[], None]) -> None:
        if not refused and part not in str(target):
            publish(storage, target, write, *guard)
            return

        def cut(scratch: Path) -> None:
            write(scratch)
            os.truncate(scratch, scratch.stat().st_size // 2)
            refused.append(str(target))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(scratch))

        publish(storage, target, cut, *guard)

    Storage._publish = half  # type: ignore[method-assign]
    try:
        yield refused
    finally:
        Storage._publish = publish  # type: ignore[method-assign]


def full_disks(sweep: Path, alone: Path, folder: Path) -> Iterator[Trial]:
    """Run the sweep with a disk that is full at each place, then with room again; compare with `alone`."""
    plan = load_sweep(sweep).plan
    for name, part in PLACES.items():
        root = folder / ("full-at-" + name.replace(" ", "-"))
        with _full_at(part) as refused:
            code = run_here(sweep, root)
        wrong = [] if refused else ["the disk was never full"]
        wrong += [f"exit code {code}, not 3"] if code != 3 else []
        failures = derive_state(Storage(root), plan).failures
        wrong += [f"marked as failed: {failures[0].task}"] if failures else []
        again = run_here(sweep, root)
        wrong += [f"exit code {again} with room again"] if again else []
        wrong += [f"differs: {found}" for found in differing(alone, root)[:2]]
        yield Trial("full disk", f"at {name}", "; ".join(wrong))
