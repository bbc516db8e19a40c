"""One builder at a time, and what becomes of a builder that dies."""

import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from waiting import repeating

from sphere_core.foundation.process_identity import own_place
from sphere_core.foundation.storage import Storage
from workflows.store.build_lock import building
from workflows.store.heartbeat_lock import LAPSE_SECONDS
from workflows.store.layout import lock_path

LOCK = "thing"


def held_by(storage: Storage, host: str, pid: int) -> None:
    now = time.time()
    record = {"generation": 1, "id": "x", "host": host, "pid": pid, "since": now, "beats": 0, "at": now}
    storage.write_bytes(lock_path(LOCK, 1), json.dumps({**record, "place": own_place()}).encode())


def build(storage: Storage, builders: list[str], name: str, gate: threading.Event) -> None:
    with building(storage, LOCK, lambda: storage.exists("thing")) as mine:
        if mine:
            builders.append(name)
            gate.wait(5)
            storage.write_bytes("thing", name.encode())


def test_of_many_who_want_it_one_builds(tmp_path: Path) -> None:
    storage, builders, gate = Storage(tmp_path), [], threading.Event()
    threads = [threading.Thread(target=build, args=(storage, builders, str(n), gate)) for n in range(4)]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join()
    assert len(builders) == 1
    assert storage.read_bytes("thing").decode() == builders[0]
    assert storage.list("locks") == []
    build(storage, builders, "late", gate)
    assert len(builders) == 1


def test_a_lock_of_a_process_that_is_gone_is_taken_over_at_once(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    storage, builders, gate = Storage(tmp_path), [], threading.Event()
    gate.set()
    held_by(storage, socket.gethostname(), gone.pid)
    start = time.monotonic()
    build(storage, builders, "second", gate)
    assert time.monotonic() - start < LAPSE_SECONDS
    assert builders == ["second"]


def test_a_lock_of_another_machine_is_taken_over_once_it_is_silent(tmp_path: Path) -> None:
    storage, builders, gate, heard = Storage(tmp_path), [], threading.Event(), []
    gate.set()
    held_by(storage, "elsewhere", 1)
    record = json.loads(storage.read_bytes(lock_path(LOCK, 1)))

    def beat(number: int) -> None:
        if not heard:
            storage.write_bytes(lock_path(LOCK, 1), json.dumps({**record, "beats": number}).encode())

    timing = {"beat_seconds": 0.1, "lapse_seconds": 0.6}
    with (
        repeating(beat),
        building(storage, LOCK, lambda: False, on_wait=heard.append, **timing) as mine,
    ):
        assert mine
    assert heard == ["elsewhere:1"]
    build(storage, builders, "third", gate)
    assert builders == ["third"]
