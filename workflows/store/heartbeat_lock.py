"""A lock with a heartbeat, on any storage: one driver a root, one builder of what is shared.

A lock is a file named by its generation, created exclusively; the highest one stands. Whoever takes over, because the
heartbeat has stopped or by force, creates the next generation, and the one before finds out at its next heartbeat.
Whether another holder lives is judged by watching its heartbeat, never by comparing two machines' clocks; only where
its process id means something here is it asked for first.
"""

import hashlib
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from types import TracebackType
from typing import Self

from sphere_core.foundation.durations import duration
from sphere_core.foundation.process_identity import has_ended, own_place
from sphere_core.foundation.storage import Storage
from workflows.store.layout import LOCKS, lock_path

__all__ = ["BEAT_SECONDS", "LAPSE_SECONDS", "HeartbeatLock", "HeldError", "Holder"]

BEAT_SECONDS = 5.0
LAPSE_SECONDS = 30.0
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Holder:
    """Who holds, or held, a lock. `place` is where `pid` means something; empty where that is not known."""

    generation: int
    id: str
    host: str
    pid: int
    since: float
    beats: int
    at: float
    place: str = ""

    def describe(self) -> str:
        """Say who it is, since when, and when it was last heard of."""
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"{self.host}, process {self.pid}, since {since}, last heartbeat {duration(time.time() - self.at)} ago"


class HeldError(RuntimeError):
    """Somebody else holds the lock, and lives."""

    def __init__(self, holder: Holder) -> None:
        super().__init__(holder.describe())
        self.holder = holder


class HeartbeatLock:
    """A lock by its name. A context manager once it has been acquired: leaving it releases the lock."""

    def __init__(
        self,
        storage: Storage,
        name: str,
        *,
        beat_seconds: float = BEAT_SECONDS,
        lapse_seconds: float = LAPSE_SECONDS,
    ) -> None:
        self._storage = storage
        self._name = name
        self._beat_seconds = beat_seconds
        self._lapse_seconds = lapse_seconds
        now = time.time()
        self._own = Holder(0, uuid.uuid4().hex, socket.gethostname(), os.getpid(), now, 0, now, own_place())
        self._released = threading.Event()
        self._taken_by: str | None = None
        self._thread = threading.Thread(target=self._keep, name="heartbeat", daemon=True)

    def acquire(self, *, steal: bool = False, tell: Callable[[str], None] = lambda _: None) -> Self:
        """Take the lock, or take it over from a holder that is gone; raises HeldError where another one lives.

        A holder on this machine, in this boot and PID namespace, whose process has ended is known to be gone. Any other
        is watched: until its next heartbeat, or for `lapse_seconds` without one. `steal` asks nobody.
        """
        while True:
            standing = self._standing()
            if standing is not None and standing.id == self._own.id:
                break
            if standing is not None and not steal and self._lives(standing, tell):
                raise HeldError(standing)
            generation = 1 if standing is None else standing.generation + 1
            self._own = replace(self._own, generation=generation)
            if self._storage.create_exclusive(lock_path(self._name, generation), _encode(self._own)):
                break
            steal = False  # somebody else was faster, and lives
        if standing is not None and standing.id != self._own.id:
            self._storage.delete(lock_path(self._name, standing.generation))
        self._thread.start()
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        self._thread.join()
        try:
            self._storage.delete(lock_path(self._name, self._own.generation))
        except Exception as fault:  # noqa: BLE001 - the work has ended; a lock left behind lapses by itself
            _LOGGER.warning("the lock '%s' could not be removed: %s", self._name, fault)

    @property
    def taken_by(self) -> str | None:
        """Who has taken the lock over, as far as the last heartbeat found out."""
        return self._taken_by

    def _keep(self) -> None:
        while not self._released.wait(self._beat_seconds):
            try:
                standing = self._standing()
                if standing is None or standing.id != self._own.id:
                    self._taken_by = "its lock was removed" if standing is None else standing.describe()
                    return
                self._own = replace(self._own, beats=self._own.beats + 1, at=time.time())
                self._storage.write_bytes(lock_path(self._name, self._own.generation), _encode(self._own))
            except Exception as fault:  # noqa: BLE001 - trouble with storage is for the holder's own work to find
                _LOGGER.warning("the heartbeat of '%s' could not be written: %s", self._name, fault)

    def _standing(self) -> Holder | None:
        own = [path for path in self._storage.list(LOCKS) if path.startswith(f"{LOCKS}/{self._name}.")]
        for path in reversed(own):
            try:
                data = self._storage.read_bytes(path)
            except FileNotFoundError:
                continue
            try:
                return Holder(**json.loads(data))
            except (ValueError, TypeError):
                # Torn, or of another release: whoever it is may live, and is known by the heartbeat alone.
                generation = int(path.removesuffix(".json").rpartition(".")[2])
                return Holder(generation, hashlib.sha256(data).hexdigest(), "an unreadable lock", 0, 0.0, 0, 0.0)
        return None

    def _lives(self, holder: Holder, tell: Callable[[str], None]) -> bool:
        if holder.place and (holder.host, holder.place) == (self._own.host, self._own.place):
            if has_ended(holder.pid, holder.place):
                return False
            if 0 <= time.time() - holder.at < self._lapse_seconds:
                return True
        tell(f"somebody was here: {holder.describe()}; watching for its heartbeat")
        deadline = time.monotonic() + self._lapse_seconds
        while time.monotonic() < deadline:
            time.sleep(self._beat_seconds / 5)
            found = self._standing()
            if found is None:
                return False
            if (found.id, found.beats) != (holder.id, holder.beats):
                return True
        return False


def _encode(holder: Holder) -> bytes:
    return json.dumps(asdict(holder)).encode()
