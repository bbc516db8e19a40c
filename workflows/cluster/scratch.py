"""Ray's folder for sockets and logs: short, private, and removed."""

import os
import shutil
import tempfile
from pathlib import Path

from sphere_core.foundation.process_identity import has_ended, own_place

__all__ = ["RayScratch"]

_PREFIX = "sphere-ray-"
# A file in the folder with the scope of the process id in its name; socket paths leave no room for it in the name.
_PLACE = "place"


class RayScratch:
    """A folder for one Ray session, named by the process that owns it.

    Ray never removes its session folders, and a killed process cannot: those of this user's dead processes are removed
    when the next session starts, if their process ids are valid on this machine; containers may share the temporary
    folder. Socket paths below must be under 107 bytes, so the folder is in the system's temporary one.
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
