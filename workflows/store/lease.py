"""Leases: of two replicas on one trajectory, only the later one may publish.

A replica on a node that is presumed dead may keep writing for seconds, so liveness is not enough. Each attempt at a
trajectory has a number, one more than the last; a replica reads the lease again before it publishes, and stops if a
later attempt holds it. All attempts produce equal checkpoints, so the short race that remains is harmless. An
unreadable lease belongs to no replica: its holder stops, and the next attempt's number is one more than that of the
last attempt that began.
"""

from sphere_core.foundation.storage import Storage
from workflows.store.layout import attempt_path, lease_path
from workflows.store.records import Lease

__all__ = ["LeaseLostError", "last_attempt", "later_attempt", "read_lease", "require_lease", "take_lease"]


_UNREADABLE = "a lease that cannot be read"


class LeaseLostError(RuntimeError):
    """A later attempt holds the lease of the trajectory."""


def read_lease(storage: Storage, trajectory_id: str) -> Lease | None:
    """Return the current lease, or None if no replica has run the trajectory yet.

    For an unreadable lease (after a power loss) it returns the last attempt that began, with a placeholder as its
    owner.
    """
    try:
        data = storage.read_bytes(lease_path(trajectory_id))
    except FileNotFoundError:
        return None
    return Lease.decode(data) or Lease(attempt=_last_attempt(storage, trajectory_id), owner=_UNREADABLE)


def take_lease(storage: Storage, trajectory_id: str, lease: Lease) -> None:
    """Write the lease of a trajectory, replacing an older one; a second call with the same lease is allowed.

    Raises LeaseLostError if another attempt with the same or a later number holds it.
    """
    current = read_lease(storage, trajectory_id)
    if current is not None and current != lease and current.attempt >= lease.attempt:
        raise LeaseLostError(f"attempt {current.attempt} by {current.owner}")
    lease.write(storage, lease_path(trajectory_id))


def require_lease(storage: Storage, trajectory_id: str, lease: Lease) -> None:
    """Raise LeaseLostError unless this lease is the current one; writes nothing."""
    current = read_lease(storage, trajectory_id)
    if current != lease:
        by = "no attempt" if current is None else f"attempt {current.attempt} by {current.owner}"
        raise LeaseLostError(by)


def later_attempt(storage: Storage, trajectory_id: str, attempt: int) -> str:
    """Return the later attempt that holds the lease, as text; empty if there is none."""
    current = read_lease(storage, trajectory_id)
    return f"attempt {current.attempt} by {current.owner}" if current and current.attempt > attempt else ""


def _last_attempt(storage: Storage, trajectory_id: str) -> int:
    folder = attempt_path(trajectory_id, 0).rpartition("/")[0]
    names = (path.rpartition("/")[2].removesuffix(".json") for path in storage.list(folder))
    return max((int(name) for name in names if name.isdecimal()), default=0)


def last_attempt(storage: Storage, trajectory_id: str) -> int:
    """Return the last attempt at a trajectory that took its lease; 0 before the first."""
    standing = read_lease(storage, trajectory_id)
    return 0 if standing is None else standing.attempt
