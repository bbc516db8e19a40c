"""Storage failures: which are retried, for how long, and which are final at once."""

import errno
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

__all__ = ["PATIENCE", "StorageError", "persistently"]

Result = TypeVar("Result")

# Seconds before each retry: short disturbances of a network file system or an object store pass.
PATIENCE = (0.2, 0.8, 2.5)
# Answers of a file system, not failures.
_ANSWERS = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)
_HOPELESS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


class StorageError(OSError):
    """Storage cannot be read or written: it is full, refuses access, or failed repeatedly."""


def persistently(
    call: Callable[[], Result], *, where: str, faults: type[Exception], patience: Sequence[float] = PATIENCE
) -> Result:
    """Return what `call` returns, retrying after each pause of `patience` (seconds) if it raises one of `faults`.

    Raises StorageError at once if no space or no permission is left, otherwise after the last try. Answers of a file
    system (no such file, exists already) and MemoryError are raised unchanged.
    """
    for pause in (*patience, None):
        try:
            return call()
        except (*_ANSWERS, StorageError, MemoryError):
            raise
        except faults as error:
            hopeless = isinstance(error, OSError) and error.errno in _HOPELESS
            if pause is None or hopeless:
                reason = str(error) or "no reason given"
                raise StorageError(f"{where}: {type(error).__name__}: {reason}") from error
            time.sleep(pause)
    raise AssertionError("the last try returns or raises")
