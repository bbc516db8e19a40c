"""One driver per root. Leases keep two replicas from writing one trajectory; this lock excludes a second driver."""

from collections.abc import Callable
from typing import Self

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from workflows.store.heartbeat_lock import HeartbeatLock, HeldError
from workflows.store.layout import DRIVER_LOCK

__all__ = ["DriverLock"]


class DriverLock(HeartbeatLock):
    """The lock of one root."""

    def __init__(self, storage: Storage, **timing: float) -> None:
        super().__init__(storage, DRIVER_LOCK, **timing)

    def acquire(self, *, steal: bool = False, tell: Callable[[str], None] = lambda _: None) -> Self:
        """Take the lock, or take it over from a driver that is gone; raises InputError if another driver is alive."""
        try:
            return super().acquire(steal=steal, tell=tell)
        except HeldError as held:
            raise InputError(
                f"another driver works on this sweep: {held}",
                where=self._storage.uri,
                remedy="let it work or stop it; if it hangs, take over with --steal",
            ) from held

    def require(self) -> None:
        """Raise InputError if another driver has taken over."""
        if self.taken_by is not None:
            raise InputError(
                f"another driver has taken this sweep over: {self.taken_by}",
                where=self._storage.uri,
                remedy="leave the work to it; everything published is kept",
            )
