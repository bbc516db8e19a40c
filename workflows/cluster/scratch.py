"""Ray's folder for sockets and logs: short, private, and not left behind."""

import os
import shutil
import tempfile
from pathlib import Path

from sphere_core.foundation.process_identity import has_ended, own_place

__all__ = ["RayScratch"]

_PREFIX = "sphere-ray-"
# A file in the folder: where the process id in the folder's name means something. Names of sockets leave no room.
_PLACE = "place"


class RayScratch:
    """A folder for one Ray session, named by the process that owns it.

    Ray never removes its session folders, and a killed process cannot: those of this user's dead processes go when
    the next session starts, as far as their ids mean something here; containers may share the temporary folder. Paths
    of sockets below must be under 107 bytes, so the folder lies in the system's temporary one.
    """

    def __init__(self) -> None:
        parent = Path(tempfile.gettempdir())
        for left in parent.glob(f"{_PREFIX}*"):
            if _is_orphan(left):
                shutil.rmtree(left, ignore_errors=True)
        self.path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent))
        (self.path / _PLACE).write_text(own_place(), encoding="utf-8")

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)


def _is_orphan(folder: Path) -> bool:
    owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
    if not owner.isdigit():
        return False
    try:
        place = (folder / _PLACE).read_text(encoding="utf-8")
        return folder.stat().st_uid == os.getuid() and has_ended(int(owner), place)
    except OSError:
        return False
