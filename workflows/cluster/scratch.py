"""Ray's folder for sockets and logs: short, private, and removed."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.process_identity import has_ended, own_place
from workflows.cluster.session_guard import SessionGuard

__all__ = ["RayScratch"]

_PREFIX = "sphere-ray-"
# A file in the folder with the scope of the process id in its name; socket paths leave no room for it in the name.
_PLACE = "place"
# Bytes of the longest socket path below the folder that Ray is given.
_BELOW = len("/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store")
_SOCKET_BYTES = 107


class RayScratch:
    """A folder for one Ray session, named by the process that owns it.

    Ray never removes its session folders, and a killed process cannot: those of this user's dead processes are removed
    when the next session starts, if their process ids are valid on this machine; containers may share the temporary
    folder. The folder is in the first of `parents` in which socket paths are short enough, by default the system's
    temporary folder (TMPDIR), /tmp and /dev/shm. Only its owner may enter it; Ray itself works in a folder inside,
    which it opens to everybody. Raises InputError if no parent is short enough and writable.
    """

    def __init__(self, parents: Sequence[str] | None = None) -> None:
        places = list(dict.fromkeys([tempfile.gettempdir(), "/tmp", "/dev/shm"] if parents is None else parents))
        for parent in places:
            for left in Path(parent).glob(f"{_PREFIX}*"):
                if _is_orphan(left):
                    shutil.rmtree(left, ignore_errors=True)
        self._folder = _made(places)
        (self._folder / _PLACE).write_text(own_place(), encoding="utf-8")
        self.path = self._folder / "r"
        self.path.mkdir(mode=0o700)
        self._guard: SessionGuard | None = None

    def guard(self) -> None:
        """From now on, see to it that no process of the session outlives this one."""
        self._guard = SessionGuard(self._folder)

    def remove(self) -> None:
        """Remove the folder, and end what may be left of the session."""
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._guard is not None:
            self._guard.release()


def _made(parents: Sequence[str]) -> Path:
    """Return a new folder in the first parent that is short enough for Ray's sockets and can be written."""
    faults = []
    for parent in parents:
        try:
            folder = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent)
        except OSError as error:
            faults.append(f"{parent}: {error.strerror}")
            continue
        if len(os.fsencode(f"{folder}/r")) + _BELOW <= _SOCKET_BYTES:
            return Path(folder)
        os.rmdir(folder)
        faults.append(f"{parent}: too long")
    raise InputError(
        f"no temporary folder is short enough for Ray's sockets, whose paths have at most {_SOCKET_BYTES} bytes",
        where="; ".join(faults),
        remedy="set TMPDIR to a short folder that you can write, or run with --local, without Ray",
    )


def _is_orphan(folder: Path) -> bool:
    owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
    if not owner.isdigit():
        return False
    try:
        place = (folder / _PLACE).read_text(encoding="utf-8")
        return folder.stat().st_uid == os.getuid() and has_ended(int(owner), place)
    except OSError:
        return False
