"""Whether the head of a Ray cluster still answers. Knows its address only, not Ray.

Ray ends a process whose head has been gone for a minute, in the middle of whatever it does; to end with a word about
what to do, one has to be sooner.
"""

import socket
import time

from workflows.executor import ExecutorError

__all__ = ["Head"]

PATIENCE_SECONDS = 15.0
_CONNECT_SECONDS = 3.0
_POLL_SECONDS = 1.0


class Head:
    """The head of a cluster, by the address (`host:port`) of its control service."""

    def __init__(self, address: str, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        host, _, port = address.rpartition(":")
        self._where = (host.strip("[]"), int(port))
        self._patience_seconds = patience_seconds
        self._asked = 0.0
        self.is_lost = False

    def require(self) -> None:
        """Return once the head answers; raises ExecutorError where it has not for `patience_seconds`."""
        if time.monotonic() - self._asked < _POLL_SECONDS:
            return
        deadline = time.monotonic() + self._patience_seconds
        while not self._answers():
            if time.monotonic() > deadline:
                self.is_lost = True
                raise ExecutorError(
                    f"the head of the Ray cluster at {self._where[0]}:{self._where[1]} does not answer any more",
                    "start the cluster again and give the same command: it goes on from the last checkpoints",
                )
            time.sleep(_POLL_SECONDS)
        self._asked = time.monotonic()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(self._where, timeout=_CONNECT_SECONDS):
                return True
        except OSError:
            return False
