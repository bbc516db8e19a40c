"""When storage gives out: what is tried again, for how long, and what is not worth trying."""

import errno
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

__all__ = ["PATIENCE", "StorageError", "persistently"]

Result = TypeVar("Result")

# Seconds before each further try: a moment's trouble of a network file system or an object store passes.
PATIENCE = (0.2, 0.8, 2.5)
# What a file system answers, rather than fails with.
_ANSWERS = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)
_HOPELESS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


class StorageError(OSError):
    """Storage cannot be read or written: it is full, refuses, or has gone on failing for a while."""


def persistently(
    call: Callable[[], Result], *, where: str, faults: type[Exception], patience: Sequence[float] = PATIENCE
) -> Result:
    """Return what `call` returns, trying again after each pause of `patience` where it raises one of `faults`.

    Raises StorageError at once where no space or no right is left, and after the last try otherwise. What a file
    system answers (no such file, exists already) passes, and so does MemoryError, which is this process's.
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
