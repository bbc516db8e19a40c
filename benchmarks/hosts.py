"""`python -m benchmarks.hosts`: a sweep on several hosts whose links are cut, against an undisturbed one.

Every host is a network namespace with an address, a host name and a scratch folder of its own. A head and two workers
are started by `ray start`, with a token and without loopback; a fourth host submits through the Jobs API. In one run a
worker's link is cut for thirty seconds, in another for good. Needs root and iproute2; without, it says so and ends.
"""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import typer
import yaml
from rich.console import Console

from benchmarks.equal_bytes import results
from benchmarks.network import Network, Process, can_make_hosts, network

__all__ = ["main"]

SWEEP = {
    "name": "hosts",
    "models": ["factworld"],
    "streams": [{"dataset": "factworld", "edits": 60, "order": "shuffled"}],
    "methods": ["memit", "alphaedit+sphere"],
    "seeds": [0, 1],
    "batch_size": 2,
    "checkpoint_every": 20,
    "moments": {"corpus": "factworld", "sentences": 600},
    "contexts": {"seeds": ["The"], "length": 6, "top_k": 5},
    "evaluators": {"edit_quality": {}, "geometry": {}},
    "resources": {"threads": 1, "replica": {"num_cpus": 1}, "evaluator": {"replicas": 0}},
}
HOSTS = ("head", "worker1", "worker2", "laptop")
JOBS_PORT = 8265
CUT_SECONDS = 30.0
LIMIT_SECONDS = 900.0


@dataclass
class Cluster:
    """A head and two workers; a worker whose Ray ends is started again, as a service manager would."""

    net: Network
    environment: dict[str, str]
    log: IO[str]
    rays: dict[str, Process] = field(default_factory=dict)

    @property
    def jobs(self) -> str:
        """The address of the Jobs API, on the head's own address."""
        return f"http://{self.net.hosts['head'].address}:{JOBS_PORT}"

    def start_ray(self, host: str) -> None:
        """Start Ray on a host; it stays in the foreground."""
        own = self.net.hosts[host].address
        head = self.net.hosts["head"].address
        options = {"--node-ip-address": own, "--object-store-memory": 80 << 20}
        if host == "head":
            options |= {"--port": 6379, "--num-cpus": 0, "--temp-dir": self.net.private, "--dashboard-host": own}
            options |= {"--dashboard-port": JOBS_PORT}
        else:
            options |= {"--address": f"{head}:6379", "--num-cpus": 1}
        flags = ["--head", "--disable-usage-stats"] if host == "head" else []
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *flags]
        command += [f"{name}={value}" for name, value in options.items()]
        self.rays[host] = self.net.start(host, command, self.environment, self.log)

    def mend(self, host: str) -> None:
        """Start Ray on a worker again if it has ended."""
        if self.rays[host].poll() is not None:
            self.net.end_processes(host)
            self.start_ray(host)

    def sphere(self, host: str, *arguments: object, environment: Mapping[str, str] | None = None) -> Process:
        """Start the `sphere` command on a host."""
        command = [sys.executable, "-m", "workflows.cli", *map(str, arguments)]
        return self.net.start(host, command, environment or self.environment, self.log)

    def status_without_token(self, path: str) -> int:
        """Return the HTTP status of a request from the laptop that carries no token."""
        code = (
            "import sys, urllib.error, urllib.request\n"
            "try:\n    print(urllib.request.urlopen(sys.argv[1], timeout=20).status)\n"
            "except urllib.error.HTTPError as error:\n    print(error.code)\n"
        )
        command = ["ip", "netns", "exec", self.net.hosts["laptop"].namespace, sys.executable, "-c", code]
        done = subprocess.run([*command, f"{self.jobs}{path}"], capture_output=True, text=True, check=True)
        return int(done.stdout)


@contextlib.contextmanager
def cluster(log: IO[str]) -> Iterator[Cluster]:
    """Start the hosts and Ray on three of them."""
    with network(HOSTS) as net:
        token = net.shared / "token"
        token.write_text(secrets.token_hex(32), encoding="utf-8")
        token.chmod(0o600)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        environment = {
            **kept,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
        }
        found = Cluster(net, environment, log)
        found.start_ray("head")
        _wait(lambda: _listens(found), 120, "the head's Jobs API")
        for host in ("worker1", "worker2"):
            found.start_ray(host)
        yield found


def main() -> None:
    """Run the sweep alone, and twice on the hosts; exits 1 where one byte differs or a check fails."""
    console = Console(width=120)
    reason = can_make_hosts()
    if reason is not None:
        console.print(f"skipped: {reason}")
        return
    # Asked to end, it must still take its hosts down.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    checks: dict[str, bool] = {}
    with contextlib.ExitStack() as stack:
        log_path = Path(f"hosts-{os.getpid()}.log")
        log = stack.enter_context(log_path.open("w", encoding="utf-8"))
        console.print(f"log: {log_path}")
        there = stack.enter_context(cluster(log))
        shared = there.net.shared
        sweep = shared / "sweep.yaml"
        sweep.write_text(yaml.safe_dump(SWEEP, sort_keys=False), encoding="utf-8")

        seconds = _timed(there.sphere("laptop", "run", sweep, "--local", "--root", shared / "alone"))
        alone = results(shared / "alone")
        console.print(f"alone, one replica in one process: {seconds:.0f} s, {len(alone)} files")

        checks |= _strangers(there, sweep)
        for name, cut in (("cut for 30 s", CUT_SECONDS), ("cut for good", float("inf"))):
            said = _disturbed_run(there, sweep, shared / name.replace(" ", "-"), cut)
            same = results(shared / name.replace(" ", "-")) == alone
            console.print(f"{name}: {said}; {'byte-equal' if same else 'DIFFERENT'}")
            checks[f"{name}: rows and weights byte-equal"] = same
            checks[f"{name}: another attempt took over"] = "nan" not in said
    for check, holds in checks.items():
        console.print(f"{'ok  ' if holds else 'FAIL'}  {check}")
    raise typer.Exit(0 if all(checks.values()) else 1)


def _strangers(there: Cluster, sweep: Path) -> dict[str, bool]:
    """The answer to a client on the network without the token."""
    nobody = {**there.environment, "HOME": str(there.net.shared / "nobody")}
    del nobody["RAY_AUTH_TOKEN_PATH"]
    arguments = ("submit", sweep, "--address", there.jobs, "--root", there.net.shared / "refused")
    return {
        "GET /api/jobs/ without the token: 401": there.status_without_token("/api/jobs/") == 401,
        "GET /api/version without the token: 401": there.status_without_token("/api/version") == 401,
        "submit without a token refuses plain http": there.sphere("laptop", *arguments, environment=nobody).wait() == 2,
        "submit --insecure without a token is refused by the cluster": there.sphere(
            "laptop", *arguments, "--insecure", environment=nobody
        ).wait()
        == 2,
    }


def _disturbed_run(there: Cluster, sweep: Path, root: Path, cut: float) -> str:
    """Submit the sweep, cut worker1's link in the middle for so long, follow to the end; return what happened."""
    start = time.monotonic()
    job = there.sphere("laptop", "submit", sweep, "--address", there.jobs, "--root", root, "--follow")
    victims: list[str] = []
    pulled = noticed = None
    link_up = True
    while job.poll() is None:
        now = time.monotonic()
        if now - start > LIMIT_SECONDS:
            raise RuntimeError(f"the job at {root} has not ended in {LIMIT_SECONDS:g} s")
        if pulled is None:
            victims = _underway(root, "worker1")
            if victims:
                there.net.set_link("worker1", "down")
                pulled, link_up = now, False
        if pulled is not None and noticed is None and any(_attempt(root, victim) > 1 for victim in victims):
            noticed = now - pulled
        if pulled is not None and not link_up and now - pulled > cut:
            there.net.set_link("worker1", "up")
            link_up = True
        if link_up:
            there.mend("worker1")
        time.sleep(0.2)
    said = [f"{time.monotonic() - start:.0f} s, exit code {job.returncode}"]
    said.append(f"{len(victims)} trajectory cut off, taken over after {noticed or float('nan'):.1f} s")
    attempts = [_attempt(root, path.name) for path in sorted((root / "trajectories").iterdir())]
    said.append(f"attempts {attempts}")
    return ", ".join(said)


def _underway(root: Path, host: str) -> list[str]:
    """Return the trajectories that a host is in the middle of, with a checkpoint published already."""
    found = []
    for path in root.glob("trajectories/*/progress.json"):
        with contextlib.suppress(json.JSONDecodeError, FileNotFoundError):
            progress = json.loads(path.read_text(encoding="utf-8"))
            here = progress["owner"].startswith(f"{host}:") and progress["state"] == "running"
            if here and list(path.parent.glob("checkpoints/*/manifest.json")):
                found.append(path.parent.name)
    return found


def _attempt(root: Path, trajectory: str) -> int:
    try:
        lease = json.loads((root / "trajectories" / trajectory / "lease.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return 0
    return int(lease["attempt"])


def _listens(there: Cluster) -> bool:
    with contextlib.suppress(subprocess.CalledProcessError):
        return there.status_without_token("/api/version") == 401
    return False


def _timed(process: Process) -> float:
    start = time.monotonic()
    if process.wait():
        raise RuntimeError(f"exit code {process.returncode}; see the log")
    return time.monotonic() - start


def _wait(ready: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise RuntimeError(f"no {what} after {seconds:g} s; see the log")
        time.sleep(0.5)


if __name__ == "__main__":
    typer.run(main)
