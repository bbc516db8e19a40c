"""Ends what is left of a Ray session whose driver was killed: a process of its own that waits for the driver's end.

Ray's own children die with the driver; their children, agents and workers, find out for themselves, and two agents have
been seen to stay. The guard waits on a pipe that only the driver holds open. Run as a script, without the package: it
loads the standard library alone, and costs a driver nothing but a pipe.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["SessionGuard"]

# Seconds for processes to end by themselves, and after which the guard gives up.
_OWN_SECONDS, _MOST_SECONDS = 3.0, 60.0
_POLL_SECONDS = 0.5
# Longest that a release waits for the guard.
_RELEASE_SECONDS = 10.0
# What Ray's processes run.
_PROGRAMS = ("raylet", "gcs_server", "python")


class SessionGuard:
    """A guard of the session in a folder, beside this process. `release` ends its watch: what is left then goes."""

    def __init__(self, folder: Path) -> None:
        read, self._write = os.pipe()
        command = [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(folder)]
        nothing = subprocess.DEVNULL
        try:
            # A session of its own: a signal to the driver's group, or its terminal's end, must not end the guard.
            self._process = subprocess.Popen(
                command, stdin=read, stdout=nothing, stderr=nothing, start_new_session=True
            )
        finally:
            os.close(read)

    def release(self) -> None:
        """Close the pipe, as the end of this process does, and wait until nothing is left; again, it does nothing."""
        if self._write >= 0:
            os.close(self._write)
            self._write = -1
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=_RELEASE_SECONDS)


def _main(driver: int, folder: str) -> None:
    sys.stdin.buffer.read()
    start = time.monotonic()
    while found := list(_processes(driver, folder)):
        passed = time.monotonic() - start
        if passed > _MOST_SECONDS:
            return
        for process in found if passed > _OWN_SECONDS else ():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        time.sleep(_POLL_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)


def _processes(driver: int, folder: str) -> Iterator[int]:
    """Yield this user's processes of Ray that have a file of the folder open, or its name among their arguments."""
    for entry in Path("/proc").iterdir():
        process = int(entry.name) if entry.name.isdigit() else 0
        if process in (0, driver, os.getpid()):
            continue
        try:
            program = (entry / "exe").readlink().name
            if entry.stat().st_uid == os.getuid() and program.startswith(_PROGRAMS) and _uses(entry, folder):
                yield process
        except OSError:
            continue


def _uses(entry: Path, folder: str) -> bool:
    if f"{folder}/".encode() in (entry / "cmdline").read_bytes():
        return True
    for handle in (entry / "fd").iterdir():
        with contextlib.suppress(OSError):
            if str(handle.readlink()).startswith(f"{folder}/"):
                return True
    return False


if __name__ == "__main__":
    _main(int(sys.argv[1]), sys.argv[2])
