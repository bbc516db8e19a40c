"""One builder at a time, and what becomes of a builder that dies."""

import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sphere_core.storage import Storage
from workflows import build_lock
from workflows.build_lock import building

LOCK = ".thing.lock"


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
        thread.join(20)
    assert len(builders) == 1
    assert storage.read_bytes("thing").decode() == builders[0]
    assert not (tmp_path / LOCK).exists()
    build(storage, builders, "late", gate)
    assert len(builders) == 1


def test_a_lock_of_a_process_that_is_gone_is_taken_over_at_once(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    storage, builders, gate = Storage(tmp_path), [], threading.Event()
    gate.set()
    storage.write_bytes(LOCK, json.dumps({"host": socket.gethostname(), "pid": gone.pid}).encode())
    build(storage, builders, "second", gate)
    assert builders == ["second"]


def test_a_lock_of_another_machine_is_taken_over_once_it_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_lock, "STALE_SECONDS", 0.6)
    storage, builders, gate, heard = Storage(tmp_path), [], threading.Event(), []
    gate.set()
    storage.write_bytes(LOCK, json.dumps({"host": "elsewhere", "pid": 1}).encode())
    with building(storage, LOCK, lambda: False, on_wait=heard.append) as mine:
        assert mine
    assert heard[0] == "elsewhere:1"
    build(storage, builders, "third", gate)
    assert builders == ["third"]
