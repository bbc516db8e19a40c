"""A lock with a heartbeat, on any storage: one driver per root, one builder of each shared artefact.

A lock is a file named by its generation, created exclusively; the highest generation is valid. A process that takes
over, because the heartbeat has stopped or by force, creates the next generation; the previous holder notices at its
next heartbeat. Whether another holder is alive is decided by watching its heartbeat, never by comparing the clocks of
two machines; its process id is checked first if it is valid on this machine.
"""

import hashlib
import json
import logging
import os
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from types import TracebackType
from typing import Self

from sphere_core.foundation.durations import duration
from sphere_core.foundation.process_identity import has_ended, own_place
from sphere_core.foundation.repeating import Repeating
from sphere_core.foundation.storage import Storage
from workflows.store.layout import LOCKS, lock_path

__all__ = ["BEAT_SECONDS", "LAPSE_SECONDS", "HeartbeatLock", "HeldError", "Holder"]

BEAT_SECONDS = 5.0
LAPSE_SECONDS = 30.0
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Holder:
    """The current or previous holder of a lock. `place` is the scope in which `pid` is valid; empty if unknown."""

    generation: int
    id: str
    host: str
    pid: int
    since: float
    beats: int
    at: float
    place: str = ""

    def describe(self) -> str:
        """Return host, process, start and age of the last heartbeat as one phrase."""
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"{self.host}, process {self.pid}, since {since}, last heartbeat {duration(time.time() - self.at)} ago"


class HeldError(RuntimeError):
    """Another live process holds the lock."""

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
        self._taken_by: str | None = None
        self._heartbeat = Repeating(self._beat, seconds=beat_seconds, name="heartbeat")

    def acquire(self, *, steal: bool = False, tell: Callable[[str], None] = lambda _: None) -> Self:
        """Take the lock and start its heartbeat; take over from a holder that is gone. Raises HeldError if another one
        lives.

        Writes the next generation, then deletes the previous one. A holder on this machine, in this boot and PID
        namespace, whose process has ended is gone. Any other is watched until its next heartbeat, or for
        `lapse_seconds` without one; `tell` receives a line before that wait. `steal` takes over without watching.
        """
        while True:
            current = self._current()
            if current is not None and current.id == self._own.id:
                break
            if current is not None and not steal and self._lives(current, tell):
                raise HeldError(current)
            generation = 1 if current is None else current.generation + 1
            self._own = replace(self._own, generation=generation)
            if self._storage.create_exclusive(lock_path(self._name, generation), _encode(self._own)):
                break
            steal = False  # another process was faster, and is alive
        if current is not None and current.id != self._own.id:
            self._storage.delete(lock_path(self._name, current.generation))
        self._heartbeat.start()
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._heartbeat.stop()
        try:
            self._storage.delete(lock_path(self._name, self._own.generation))
        except Exception as fault:  # noqa: BLE001 - the work has ended; an abandoned lock lapses
            _LOGGER.warning("the lock '%s' could not be removed: %s", self._name, fault)

    @property
    def taken_by(self) -> str | None:
        """The process that has taken the lock over, as of the last heartbeat; None if none has."""
        return self._taken_by

    def _beat(self) -> bool:
        """Write one heartbeat; return False once the lock has been taken over."""
        try:
            current = self._current()
            if current is None or current.id != self._own.id:
                self._taken_by = "its lock was removed" if current is None else current.describe()
                return False
            self._own = replace(self._own, beats=self._own.beats + 1, at=time.time())
            self._storage.write_bytes(lock_path(self._name, self._own.generation), _encode(self._own))
        except Exception as fault:  # noqa: BLE001 - the holder's own work reports storage failures
            _LOGGER.warning("the heartbeat of '%s' could not be written: %s", self._name, fault)
        return True

    def _current(self) -> Holder | None:
        own = [path for path in self._storage.list(LOCKS) if path.startswith(f"{LOCKS}/{self._name}.")]
        for path in reversed(own):
            try:
                data = self._storage.read_bytes(path)
            except FileNotFoundError:
                continue
            try:
                return Holder(**json.loads(data))
            except (ValueError, TypeError):
                # Torn, or of another release: the holder may be alive, and is identified by its heartbeat alone.
                generation = int(path.removesuffix(".json").rpartition(".")[2])
                return Holder(generation, hashlib.sha256(data).hexdigest(), "an unreadable lock", 0, 0.0, 0, 0.0)
        return None

    def _lives(self, holder: Holder, tell: Callable[[str], None]) -> bool:
        if holder.place and (holder.host, holder.place) == (self._own.host, self._own.place):
            if has_ended(holder.pid, holder.place):
                return False
            if 0 <= time.time() - holder.at < self._lapse_seconds:
                return True
        tell(f"held by {holder.describe()}; watching for its heartbeat")
        deadline = time.monotonic() + self._lapse_seconds
        while time.monotonic() < deadline:
            time.sleep(self._beat_seconds / 5)
            found = self._current()
            if found is None:
                return False
            if (found.id, found.beats) != (holder.id, holder.beats):
                return True
        return False


def _encode(holder: Holder) -> bytes:
    return json.dumps(asdict(holder)).encode()
