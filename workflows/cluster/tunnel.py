"""A tunnel to the Jobs API of a cluster that Ray's launcher has started."""

import contextlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from sphere_core.foundation.errors import InputError

__all__ = ["tunnel"]

_SECONDS = 60.0
_POLL_SECONDS = 0.2


@contextlib.contextmanager
def tunnel(cluster: Path) -> Iterator[str]:
    """Forward a loopback port to the dashboard of a cluster by `ray dashboard`, and yield its address.

    Raises InputError if there is no such file, or if the tunnel is not up within a minute.
    """
    if not cluster.is_file():
        raise InputError("cluster file not found", where=str(cluster), remedy="give the file that `ray up` was given")
    port = _free_port()
    command = [sys.executable, "-m", "ray.scripts.scripts", "dashboard", str(cluster), "--port", str(port)]
    with tempfile.TemporaryFile() as log:
        # The shell at the other end of the tunnel lives as long as its standard input.
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT)
        try:
            if not _answers(port, process):
                log.seek(0)
                said = log.read().decode(errors="replace").strip().splitlines()
                raise InputError(
                    f"no tunnel to the cluster: {' '.join(said[-3:]) or 'ssh said nothing'}",
                    where=str(cluster),
                    remedy="see `ray dashboard` with the same file; the cluster must have been started by `ray up`",
                )
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.communicate(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


def _answers(port: int, process: "subprocess.Popen[bytes]") -> bool:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=_POLL_SECONDS):
            return True
        time.sleep(_POLL_SECONDS)
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
