"""Ray's folder for sockets and logs: short, private, and not left behind."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

__all__ = ["RayScratch"]

_PREFIX = "sphere-ray-"


class RayScratch:
    """A folder for one Ray session, named by the process that owns it.

    Ray never removes its session folders, and a killed process cannot: those of this user's dead processes go when
    the next session starts. Paths of sockets below must be under 107 bytes, so the folder lies in the system's
    temporary one.
    """

    def __init__(self) -> None:
        parent = Path(tempfile.gettempdir())
        for left in parent.glob(f"{_PREFIX}*"):
            if _is_orphan(left):
                shutil.rmtree(left, ignore_errors=True)
        self.path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent))

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)


def _is_orphan(folder: Path) -> bool:
    owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
    if not owner.isdigit():
        return False
    with contextlib.suppress(FileNotFoundError):
        if folder.stat().st_uid != os.getuid():
            return False
    try:
        os.kill(int(owner), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
