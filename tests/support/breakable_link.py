"""A link to a port of this machine that can be cut, as an ssh tunnel that dies."""

import contextlib
import socket
import threading
from collections.abc import Iterator

__all__ = ["BreakableLink", "breakable_link"]


class BreakableLink:
    """Passes bytes on between whoever connects to `port` and another port, until it is cut."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = [self._listener]
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Close every connection; nobody answers any more."""
        for end in self._sockets:
            # A socket that another thread reads from is woken up by this alone.
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=_pass_on, args=(source, sink), daemon=True).start()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def breakable_link(target: int) -> Iterator[BreakableLink]:
    """Yield a link to a port of this machine."""
    link = BreakableLink(target)
    try:
        yield link
    finally:
        link.cut()
