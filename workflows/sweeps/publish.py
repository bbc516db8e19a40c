"""Publishing a sweep below its root: the sweep file, the plan and the specification of every trajectory."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from sphere_core.foundation.storage import Storage
from sphere_core.trajectory_spec import TrajectorySpec
from workflows.store.layout import PLAN_FILE, SPEC_FILE, SWEEP_FILE, TRAJECTORIES, plugin_path, spec_path
from workflows.sweeps.expand import Sweep

__all__ = ["is_published", "publish"]

# Small files a new sweep writes at a time.
_WRITERS = 16


def is_published(sweep: Sweep, storage: Storage) -> bool:
    """Return whether sweep file, plan and specifications are on storage as they are now."""
    return not _missing(sweep, storage)


def publish(sweep: Sweep, storage: Storage) -> None:
    """Write the sources of plugins, the sweep file and the plan, where they differ, then the specifications that are
    missing."""
    missing = _missing(sweep, storage)
    for digest, source in sweep.sources.items():
        if plugin_path(digest) in missing:
            storage.write_bytes(plugin_path(digest), source)
            del missing[plugin_path(digest)]
    for path in (SWEEP_FILE, PLAN_FILE):
        if path in missing:
            storage.write_bytes(path, missing.pop(path)())
    with ThreadPoolExecutor(_WRITERS) as pool:
        for _ in pool.map(lambda path: storage.write_bytes(path, missing[path]()), missing):
            pass


def _missing(sweep: Sweep, storage: Storage) -> dict[str, Callable[[], bytes]]:
    """Return what makes the bytes of each file that is missing or (of sweep file and plan) is another."""
    files = {
        SWEEP_FILE: Path(sweep.text.source).read_bytes,
        PLAN_FILE: sweep.plan.model_dump_json(indent=1).encode,
    }
    other = {
        path: make for path, make in files.items() if not storage.exists(path) or storage.read_bytes(path) != make()
    }
    present = {path for path in storage.list(TRAJECTORIES) if path.endswith(f"/{SPEC_FILE}")}
    specs = {spec_path(trajectory_id): spec for trajectory_id, spec in sweep.specs.items()}
    missing = {path: partial(_spec_bytes, spec) for path, spec in specs.items() if path not in present}
    sources = {plugin_path(digest): partial(bytes, source) for digest, source in sweep.sources.items()}
    lacking = {path: make for path, make in sources.items() if not storage.exists(path)}
    return {**lacking, **other, **missing}


def _spec_bytes(spec: TrajectorySpec) -> bytes:
    return spec.model_dump_json(indent=1).encode()
