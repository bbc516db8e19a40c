"""Two drivers on one root."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from waiting import repeating

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.process_identity import own_place
from sphere_core.foundation.storage import Storage
from workflows.store.driver_lock import DriverLock
from workflows.store.heartbeat_lock import LAPSE_SECONDS
from workflows.store.layout import DRIVER_LOCK, LOCKS, lock_path


@pytest.fixture(params=["local", "memory"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return Storage(tmp_path) if request.param == "local" else Storage(f"memory://{tmp_path.name}/lock")


def lock(storage: Storage) -> DriverLock:
    return DriverLock(storage, beat_seconds=0.05, lapse_seconds=0.4)


def test_a_second_driver_is_refused_and_the_message_names_the_first(shared: Storage) -> None:
    with (
        lock(shared).acquire(),
        pytest.raises(InputError, match=rf"another driver.*{socket.gethostname()}, process {os.getpid()}, since 20"),
    ):
        lock(shared).acquire()
    with lock(shared).acquire():
        pass
    assert shared.list(LOCKS) == []


def elsewhere(storage: Storage, *, beats: int) -> None:
    """Write the lock of a driver on another machine whose clock is a day ahead."""
    day = time.time() + 86400
    record = {"generation": 3, "id": "x", "host": "elsewhere", "pid": 1, "since": day, "beats": beats, "at": day}
    storage.write_bytes(lock_path(DRIVER_LOCK, 3), json.dumps(record).encode())


def test_a_driver_elsewhere_is_watched_for_its_heartbeat(shared: Storage) -> None:
    elsewhere(shared, beats=1)
    told: list[str] = []
    with (
        repeating(lambda number: elsewhere(shared, beats=1 + number)),
        pytest.raises(InputError, match="elsewhere, process 1"),
    ):
        lock(shared).acquire(tell=told.append)
    assert "watching for its heartbeat" in told[0]
    # Now it is silent.
    with lock(shared).acquire():
        assert shared.list(LOCKS) == [lock_path(DRIVER_LOCK, 4)]


@pytest.fixture
def ended() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def left_here(storage: Storage, pid: int, *, beats: int = 0, **place: str) -> None:
    """Write the lock of a driver of this host name."""
    now = time.time()
    record = {"generation": 1, "id": "x", "host": socket.gethostname(), "pid": pid, "since": now, "at": now}
    storage.write_bytes(lock_path(DRIVER_LOCK, 1), json.dumps({**record, "beats": beats, **place}).encode())


@pytest.mark.skipif(not own_place(), reason="needs /proc")
def test_a_dead_driver_of_this_machine_holds_nothing_up(shared: Storage, ended: int) -> None:
    left_here(shared, ended, place=own_place())
    start = time.monotonic()
    with DriverLock(shared).acquire():
        assert time.monotonic() - start < LAPSE_SECONDS


@pytest.mark.parametrize("place", [{}, {"place": ""}, {"place": "another boot pid:[1]"}])
def test_a_process_id_of_another_place_says_nothing(shared: Storage, ended: int, place: dict[str, str]) -> None:
    # No place at all: the lock of an earlier release.
    left_here(shared, ended, **place)
    told: list[str] = []
    with (
        repeating(lambda number: left_here(shared, ended, beats=number, **place)),
        pytest.raises(InputError, match="another driver"),
    ):
        lock(shared).acquire(tell=told.append)
    assert "watching for its heartbeat" in told[0]
    with lock(shared).acquire():
        assert shared.list(LOCKS) == [lock_path(DRIVER_LOCK, 2)]


def test_a_stolen_lock_stops_the_one_it_was_stolen_from(shared: Storage) -> None:
    def held(holder: DriverLock) -> None:
        while True:
            holder.require()
            time.sleep(0.01)

    with lock(shared).acquire() as first:
        first.require()
        with lock(shared).acquire(steal=True) as second:
            with pytest.raises(InputError, match="taken this sweep over"):
                held(first)
            time.sleep(0.2)
            second.require()


@pytest.mark.parametrize("data", [b"", b'{"generation": 2, "id"', b'{"generation": 2, "colour": "red"}'])
def test_a_lock_that_cannot_be_read_is_watched_like_any_other(shared: Storage, data: bytes) -> None:
    shared.write_bytes(lock_path(DRIVER_LOCK, 2), data)
    told: list[str] = []
    # Somebody writes on: whoever it is lives.
    with (
        repeating(lambda number: shared.write_bytes(lock_path(DRIVER_LOCK, 2), data + b" " * number)),
        pytest.raises(InputError, match="an unreadable lock"),
    ):
        lock(shared).acquire(tell=told.append)
    assert "watching for its heartbeat" in told[0]
    with lock(shared).acquire():
        assert shared.list(LOCKS) == [lock_path(DRIVER_LOCK, 3)]
