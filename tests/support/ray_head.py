"""A Ray head with its Jobs API on loopback, started by `ray start` and ended by its process id."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["RayHead", "ray_head"]


@dataclass(frozen=True)
class RayHead:
    """A head that runs: the URL of its Jobs API, the address of its control service, the process of `ray start`."""

    jobs: str
    address: str
    process: int


def free_port() -> int:
    """Return a port of the loopback interface that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def ray_head(*, cpus: int) -> Iterator[RayHead]:
    """Start a head of its own, with the token of the tests, and yield it once its Jobs API answers."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    with tempfile.TemporaryDirectory(prefix="rh", ignore_cleanup_errors=True) as folder:
        port, control = free_port(), free_port()
        options = {
            "--node-ip-address": "127.0.0.1",
            "--port": control,
            "--ray-client-server-port": free_port(),
            "--dashboard-host": "127.0.0.1",
            "--dashboard-port": port,
            "--dashboard-agent-listen-port": free_port(),
            "--num-cpus": cpus,
            "--object-store-memory": 80 << 20,
            "--temp-dir": f"{folder}/ray",
        }
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
        command += [f"{name}={value}" for name, value in options.items()]
        with (Path(folder) / "log").open("w+") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
            try:
                _wait_for(port, process, log.name)
                yield RayHead(f"http://127.0.0.1:{port}", f"127.0.0.1:{control}", process.pid)
            finally:
                # Asked to end, `ray start --block` ends what it has started.
                process.send_signal(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=10)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def _wait_for(port: int, process: subprocess.Popen[bytes], log: str) -> None:
    while True:
        assert process.poll() is None, Path(log).read_text(encoding="utf-8")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
