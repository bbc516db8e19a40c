"""One builder at a time: a lock file that its holder keeps alive, for things that are built once and shared.

Clocks of different machines are never compared: whoever waits watches whether the file changes. A holder that stops
renewing it for `STALE_SECONDS` is dead, as is one on this machine whose process is gone; its lock is taken over.
What is built is published whole and equal whoever builds it, so a takeover too early costs work, never a result.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from sphere_core.storage import Storage

__all__ = ["building"]

RENEW_SECONDS = 10.0
STALE_SECONDS = 60.0
_POLL_SECONDS = 0.5


@contextmanager
def building(
    storage: Storage, path: str, is_built: Callable[[], bool], *, on_wait: Callable[[str], None] = lambda _: None
) -> Iterator[bool]:
    """Hold the lock `path` while something is built; gives False where it is built already, or was by another.

    `on_wait` receives the holder's name while another builds.
    """
    own = {"host": socket.gethostname(), "pid": os.getpid(), "token": uuid.uuid4().hex}
    if is_built() or not _acquire(storage, path, own, is_built, on_wait):
        yield False
        return
    released = threading.Event()
    renewer = threading.Thread(target=_renew, args=(storage, path, own, released), daemon=True)
    renewer.start()
    try:
        # Another may have finished between the last look and the lock.
        yield not is_built()
    finally:
        released.set()
        renewer.join()
        if _holder(storage, path).get("token") == own["token"]:
            storage.delete(path)


def _acquire(
    storage: Storage,
    path: str,
    own: dict[str, object],
    is_built: Callable[[], bool],
    on_wait: Callable[[str], None],
) -> bool:
    """Wait for the lock; return False where the thing was built meanwhile."""
    seen, since = b"", time.monotonic()
    while not storage.create_exclusive(path, json.dumps({**own, "beat": 0}).encode()):
        if is_built():
            return False
        with suppress(FileNotFoundError):
            found = storage.read_bytes(path)
            if found != seen:
                seen, since = found, time.monotonic()
            holder = _parsed(found)
            if _is_dead(holder) or time.monotonic() - since > STALE_SECONDS:
                storage.delete(path)
                continue
            on_wait(f"{holder.get('host')}:{holder.get('pid')}")
        time.sleep(_POLL_SECONDS)
    return True


def _renew(storage: Storage, path: str, own: dict[str, object], released: threading.Event) -> None:
    beat = 0
    while not released.wait(RENEW_SECONDS):
        beat += 1
        if _holder(storage, path).get("token") != own["token"]:
            return
        storage.write_bytes(path, json.dumps({**own, "beat": beat}).encode())


def _holder(storage: Storage, path: str) -> dict[str, object]:
    try:
        return _parsed(storage.read_bytes(path))
    except FileNotFoundError:
        return {}


def _parsed(data: bytes) -> dict[str, object]:
    try:
        found = json.loads(data)
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _is_dead(holder: dict[str, object]) -> bool:
    """Tell whether the holder was a process of this machine that is no more."""
    if holder.get("host") != socket.gethostname() or not isinstance(holder.get("pid"), int):
        return False
    try:
        os.kill(int(str(holder["pid"])), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
