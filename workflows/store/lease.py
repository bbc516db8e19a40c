"""Leases: of two replicas on one trajectory, only the later one may publish.

A dead node's replica may go on writing for seconds, so liveness is not enough. Each attempt at a trajectory has a
number, one more than the last; a replica re-reads the lease before it publishes and gives up when a
later attempt is there. Checkpoints are equal whoever makes them, which makes the short race that remains harmless.
A lease that cannot be read is nobody's: whoever held it stops, and the next attempt's number is one more than that of
the last that began.
"""

import json
from dataclasses import asdict, dataclass

from sphere_core.foundation.storage import Storage
from workflows.store.layout import attempt_path, lease_path

__all__ = ["Lease", "LeaseLostError", "read_lease", "require_lease", "take_lease"]


_UNREADABLE = "a lease that cannot be read"


class LeaseLostError(RuntimeError):
    """A later attempt has taken the trajectory over."""


@dataclass(frozen=True)
class Lease:
    """Who may publish: the attempt's number and a name for the replica."""

    attempt: int
    owner: str


def read_lease(storage: Storage, trajectory_id: str) -> Lease | None:
    """Return the lease that stands, or None where nobody has run the trajectory yet.

    Of one that cannot be read (a machine that lost power) stands the last attempt that began, in no replica's name.
    """
    try:
        data = storage.read_bytes(lease_path(trajectory_id))
    except FileNotFoundError:
        return None
    try:
        record = json.loads(data)
        return Lease(int(record["attempt"]), str(record["owner"]))
    except (ValueError, TypeError, KeyError):
        return Lease(_last_attempt(storage, trajectory_id), _UNREADABLE)


def take_lease(storage: Storage, trajectory_id: str, lease: Lease) -> None:
    """Take a trajectory; raises LeaseLostError where an attempt as late as this one is there already."""
    standing = read_lease(storage, trajectory_id)
    if standing is not None and standing != lease and standing.attempt >= lease.attempt:
        raise LeaseLostError(f"attempt {standing.attempt} by {standing.owner}")
    storage.write_bytes(lease_path(trajectory_id), json.dumps(asdict(lease)).encode())


def require_lease(storage: Storage, trajectory_id: str, lease: Lease) -> None:
    """Raise LeaseLostError unless the lease that stands is this one."""
    standing = read_lease(storage, trajectory_id)
    if standing != lease:
        by = "nobody" if standing is None else f"attempt {standing.attempt} by {standing.owner}"
        raise LeaseLostError(by)


def _last_attempt(storage: Storage, trajectory_id: str) -> int:
    folder = attempt_path(trajectory_id, 0).rpartition("/")[0]
    names = (path.rpartition("/")[2].removesuffix(".json") for path in storage.list(folder))
    return max((int(name) for name in names if name.isdecimal()), default=0)
