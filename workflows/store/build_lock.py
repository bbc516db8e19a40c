"""A lock so that a shared artefact (second moments, a null space) is built once.

What is built is published whole and is the same for every builder, so a lock taken over too early costs work, never a
result.
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
    """Hold the lock `name` while something is built; yields False if it is built already.

    Waits while another process builds; `on_wait` receives that holder's name. `timing` are the lock's own settings, in
    seconds. A second call after the build yields False.
    """
    lock = _acquired(storage, name, is_built, on_wait, timing)
    if lock is None:
        yield False
        return
    with lock:
        # Another process may have finished between the last check and the lock.
        yield not is_built()


def _acquired(
    storage: Storage,
    name: str,
    is_built: Callable[[], bool],
    on_wait: Callable[[str], None],
    timing: dict[str, float],
) -> HeartbeatLock | None:
    """Wait for the lock; return None once the artefact is built."""
    while not is_built():
        try:
            return HeartbeatLock(storage, name, **timing).acquire()
        except HeldError as held:
            on_wait(f"{held.holder.host}:{held.holder.pid}")
            time.sleep(_POLL_SECONDS)
    return None
