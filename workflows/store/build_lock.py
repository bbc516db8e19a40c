"""One builder at a time of things that are built once and shared: second moments, null spaces.

What is built is published whole and equal whoever builds it, so a lock taken over too early costs work, never a result.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sphere_core.foundation.storage import Storage
from workflows.store.heartbeat_lock import HeartbeatLock, HeldError

__all__ = ["building"]

_POLL_SECONDS = 0.5


@contextmanager
def building(
    storage: Storage,
    name: str,
    is_built: Callable[[], bool],
    *,
    on_wait: Callable[[str], None] = lambda _: None,
    **timing: float,
) -> Iterator[bool]:
    """Hold the lock `name` while something is built; gives False where it is built already, or was by another.

    `on_wait` receives the holder's name while another builds. `timing` is the lock's own.
    """
    lock = _acquired(storage, name, is_built, on_wait, timing)
    if lock is None:
        yield False
        return
    with lock:
        # Another may have finished between the last look and the lock.
        yield not is_built()


def _acquired(
    storage: Storage,
    name: str,
    is_built: Callable[[], bool],
    on_wait: Callable[[str], None],
    timing: dict[str, float],
) -> HeartbeatLock | None:
    """Wait for the lock; return None where the thing is built, or was meanwhile."""
    while not is_built():
        try:
            return HeartbeatLock(storage, name, **timing).acquire()
        except HeldError as held:
            on_wait(f"{held.holder.host}:{held.holder.pid}")
            time.sleep(_POLL_SECONDS)
    return None
