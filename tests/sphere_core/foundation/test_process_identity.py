"""Process ids of another PID namespace, or another boot, are not taken for those of this one."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from repository import REPOSITORY

from sphere_core.foundation.process_identity import has_ended, own_place
from sphere_core.foundation.storage import Storage
from workflows.cluster.scratch import RayScratch
from workflows.store.driver_lock import DriverLock

UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc")

pytestmark = pytest.mark.skipif(not own_place(), reason="needs /proc")


@pytest.fixture(scope="module")
def elsewhere() -> tuple[str, ...]:
    """What makes a command run on this machine, under its host name, in a PID namespace of its own."""
    if shutil.which(UNSHARE[0]) is None or subprocess.run([*UNSHARE, "true"], capture_output=True).returncode != 0:
        pytest.skip("only root can make a PID namespace")
    return (*UNSHARE, sys.executable, "-c")


@pytest.fixture
def ended() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def shared_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder of its own, short enough for Ray, for this process and those it starts."""
    with tempfile.TemporaryDirectory(prefix="s", dir="/tmp") as short:
        monkeypatch.setenv("TMPDIR", short)
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield Path(short)


def test_a_process_is_known_to_have_ended_only_where_its_id_means_something(ended: int) -> None:
    assert has_ended(ended, own_place())
    assert not has_ended(os.getpid(), own_place())
    assert not has_ended(ended, "")
    assert not has_ended(ended, f"{own_place()}0")


TAKE = """
import sys
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from workflows.store.driver_lock import DriverLock

try:
    DriverLock(Storage(sys.argv[1]), beat_seconds=0.5, lapse_seconds=10.0).acquire(tell=print)
except InputError as refused:
    print(refused)
else:
    print("taken")
"""


def test_a_driver_in_another_pid_namespace_is_not_taken_for_dead(elsewhere: tuple[str, ...], tmp_path: Path) -> None:
    with DriverLock(Storage(tmp_path), beat_seconds=0.5).acquire() as held:
        said = subprocess.run([*elsewhere, TAKE, tmp_path], cwd=REPOSITORY, capture_output=True, text=True)
        held.require()
    assert "watching for its heartbeat" in said.stdout
    assert "another driver works on this sweep" in said.stdout, said.stderr


def test_a_session_in_another_pid_namespace_keeps_its_folder(elsewhere: tuple[str, ...], shared_folder: Path) -> None:
    scratch = RayScratch()
    (scratch.path / "session").mkdir()
    start = "from workflows.cluster.scratch import RayScratch; RayScratch()"
    subprocess.run([*elsewhere, start], cwd=REPOSITORY, check=True)
    assert (scratch.path / "session").is_dir()
    # Nor is what was left there removed from here: nobody here knows whether its process lives.
    assert len(list(shared_folder.iterdir())) == 2
    scratch.remove()
    RayScratch().remove()
    assert len(list(shared_folder.iterdir())) == 1


def test_folders_of_dead_processes_go_with_the_next_session(ended: int, shared_folder: Path) -> None:
    places = {"here": own_place(), "elsewhere": f"{own_place()}0", "unknown": ""}
    for name, place in places.items():
        folder = shared_folder / f"sphere-ray-{ended}-{name}"
        folder.mkdir()
        (folder / "place").write_text(place)
    # Of a process that has been killed before it could say where it is.
    (shared_folder / f"sphere-ray-{ended}-silent").mkdir()
    own = RayScratch()
    left = {path.name.rpartition("-")[2] for path in shared_folder.iterdir() if path != own.path.parent}
    assert left == {"elsewhere", "unknown", "silent"}
    own.remove()
    assert not own.path.parent.exists()
