"""Sweep directories that are read together, and which of them each trajectory is read from."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import pyarrow as pa

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from workflows.results.sql.local_files import LocalFiles
from workflows.store.compaction import compacted_name, stored_row_paths
from workflows.store.plan import SweepPlan, TrajectoryPlan, read_plan
from workflows.store.row_reader import compared_numbers
from workflows.store.state import SweepFiles, SweepState, TrajectoryState, derive_state, scan

__all__ = ["SweepRoot", "open_roots", "owned_parts", "owned_trajectories", "refuse_contradictions"]


@dataclass(frozen=True)
class SweepRoot:
    """A sweep directory with its plan, one listing of its files, and the state derived from them.

    `local` are the files that a block has read (`held`); None: each connection reads its files for itself.
    """

    storage: Storage
    plan: SweepPlan
    files: SweepFiles
    state: SweepState
    local: LocalFiles | None = None

    @classmethod
    def of(cls, storage: Storage, plan: SweepPlan, *, files: SweepFiles | None = None) -> "SweepRoot":
        """Return a root as it is now; `files` are taken instead of listing the storage again."""
        found = files if files is not None else scan(storage)
        return cls(storage, plan, found, derive_state(storage, plan, found))

    @contextmanager
    def held(self) -> "Iterator[SweepRoot]":
        """Yield the root for a block in which several connections are opened: each file is fetched and checked once."""
        with ExitStack() as opened:
            yield replace(self, local=self.local or LocalFiles(opened))

    @property
    def name(self) -> str:
        """The value of the column `root`."""
        return self.storage.uri

    def row_paths(self, trajectory: TrajectoryPlan) -> list[str]:
        """Return the row files of one trajectory that are stored, in the order of its checkpoints."""
        return stored_row_paths(trajectory, self.files)

    def row_sources(self, trajectory: TrajectoryPlan) -> list[str]:
        """Return the files to read a trajectory's rows from: its row files, or the compacted file that holds them."""
        paths = self.row_paths(trajectory)
        name = compacted_name(trajectory.id, paths)
        return [name] if name in self.files.compacted else paths


def open_roots(uris: Iterable[str]) -> list[SweepRoot]:
    """Open sweep directories or URLs; raises InputError if one cannot be reached, holds no plan or is named twice."""
    found: list[SweepRoot] = []
    for uri in uris:
        storage = Storage(uri)
        storage.require_reachable()
        if storage.uri in [root.name for root in found]:
            raise InputError("the same sweep directory is named twice", where=storage.uri, remedy="name it once")
        found.append(SweepRoot.of(storage, read_plan(storage)))
    refuse_contradictions(found)
    return found


def owned_trajectories(roots: Sequence[SweepRoot]) -> list[tuple[SweepRoot, TrajectoryState]]:
    """Return every trajectory once, in the order of roots and plans, with the root it is read from.

    A trajectory of several roots is read from the one that has most of its row files, the first of these.
    """
    owners: dict[str, tuple[SweepRoot, TrajectoryState]] = {}
    for root in roots:
        for found in root.state.trajectories:
            known = owners.get(found.plan.id)
            if known is None or len(root.row_paths(found.plan)) > len(known[0].row_paths(known[1].plan)):
                owners[found.plan.id] = (root, found)
    return list(owners.values())


def owned_parts(roots: Sequence[SweepRoot]) -> list[SweepRoot]:
    """Return the roots with only the trajectories that are read from each; roots without any are left out."""
    found: dict[str, tuple[SweepRoot, list[TrajectoryState]]] = {}
    for root, state in owned_trajectories(roots):
        found.setdefault(root.name, (root, []))[1].append(state)
    return [
        replace(
            root,
            plan=root.plan.model_copy(update={"trajectories": tuple(state.plan for state in states)}),
            state=replace(root.state, trajectories=tuple(states)),
        )
        for root, states in found.values()
    ]


def refuse_contradictions(roots: Sequence[SweepRoot]) -> None:
    """Raise InputError if two roots hold other numbers for one trajectory, checkpoint and evaluation.

    Unedited models are not compared: each trajectory is compared with the one of its own root.
    """
    first: dict[str, SweepRoot] = {}
    for root in roots:
        for trajectory in root.plan.trajectories:
            for path in root.row_paths(trajectory):
                other = first.setdefault(path, root)
                if other is not root:
                    _compare(path, trajectory, other, root)


def _compare(path: str, trajectory: TrajectoryPlan, one: SweepRoot, other: SweepRoot) -> None:
    left, right = one.storage.read_bytes(path), other.storage.read_bytes(path)
    if left == right:
        return
    try:
        tables = [compared_numbers(data) for data in (left, right)]
    except (OSError, pa.ArrowException):
        # Damaged: what reads its rows leaves it out, with a warning that names it.
        return
    if not tables[0].equals(tables[1]):
        raise InputError(
            f"two roots hold other numbers for the same cell: {trajectory.title} on {trajectory.model}, seed "
            f"{trajectory.seed}{_first_difference(*tables)}",
            where=f"{path}, in {one.name} and {other.name}",
            remedy="read one of the two roots only, or find out which is right: 'sphere compare' lists the differences",
        )


def _first_difference(left: pa.Table, right: pa.Table) -> str:
    for one, other in zip(left.to_pylist(), right.to_pylist(), strict=False):
        if one != other:
            place = f", {one['metric']} ({one['protocol']}) after {one['edits']} edits"
            return f"{place}: {one['value']!r} and {other['value']!r}"
    return ""
