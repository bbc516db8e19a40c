"""The scope in which a process id is valid: one boot of one machine, and one PID namespace.

Equal host names prove neither: containers may have their machine's name, and cloned machines share names.
"""

import os
from pathlib import Path

__all__ = ["has_ended", "own_place"]

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/pid")


def own_place() -> str:
    """Return this process's place: boot and PID namespace. Empty if either is unknown, as without /proc."""
    try:
        return f"{_BOOT_ID.read_text().strip()} {_NAMESPACE.readlink()}"
    except OSError:
        return ""


def has_ended(pid: int, place: str) -> bool:
    """Return whether a process of a place is known to have ended; False for any place but this process's own."""
    if not place or place != own_place():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
