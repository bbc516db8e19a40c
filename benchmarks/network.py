"""Hosts on one machine: network namespaces with addresses of their own, joined by a bridge. Needs root and `ip`."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

__all__ = ["Host", "Network", "can_make_hosts", "network"]

_SUBNET = "10.77.0"


@dataclass(frozen=True)
class Host:
    """A network namespace with a host name, one address, and `private` as its own view of one folder."""

    name: str
    namespace: str
    address: str
    private: Path


@dataclass(frozen=True)
class Network:
    """Hosts by name, below a folder: `shared` is one for all, `private` is another on every host."""

    switch: str
    hosts: Mapping[str, Host]
    shared: Path
    private: Path

    def start(self, host: str, command: Sequence[str], environment: Mapping[str, str], log: IO[str]) -> "Process":
        """Start a command on a host, in a session of its own."""
        there = self.hosts[host]
        # A mount and a host name that only this process and its children see.
        enter = f'hostname {there.name} && mount --bind {there.private} {self.private} && exec "$@"'
        line = ["ip", "netns", "exec", there.namespace, "unshare", "--mount", "--uts", "sh", "-c", enter, "sh"]
        return subprocess.Popen(
            [*line, *command], env=dict(environment), stdout=log, stderr=log, text=True, start_new_session=True
        )

    def set_link(self, host: str, state: str) -> None:
        """Pull a host's cable (`down`) or put it back (`up`)."""
        _ip("-n", self.switch, "link", "set", f"to-{host}", state)

    def end_processes(self, host: str) -> None:
        """Kill what runs on a host, by process id."""
        found = subprocess.run(
            ["ip", "netns", "pids", self.hosts[host].namespace], capture_output=True, text=True, check=False
        )
        for process in found.stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)


Process = subprocess.Popen[str]


def can_make_hosts() -> str | None:
    """Return why this process cannot make network namespaces, or None if it can."""
    if os.geteuid() != 0:
        return "not root"
    missing = [tool for tool in ("ip", "unshare") if shutil.which(tool) is None]
    if missing:
        return f"{' and '.join(missing)} not found: install iproute2 and util-linux"
    name = f"probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"no network namespaces here: {made.stderr.strip()}"
    _ip("netns", "del", name)
    return None


@contextlib.contextmanager
def network(names: Sequence[str]) -> Iterator[Network]:
    """Make hosts with those names and yield them; what they ran and what they were is gone at the end."""
    tag = f"s{os.getpid()}"
    switch = f"{tag}-switch"
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="hosts-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        shared, private = folder / "shared", folder / "r"
        hosts = {}
        for number, name in enumerate(names, start=1):
            own = folder / "own" / name
            own.mkdir(parents=True)
            hosts[name] = Host(name, f"{tag}-{name}", f"{_SUBNET}.{number}", own)
        shared.mkdir()
        private.mkdir()
        _add_namespace(switch, stack)
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        made = Network(switch, hosts, shared, private)
        for host in hosts.values():
            _add_namespace(host.namespace, stack)
            stack.callback(made.end_processes, host.name)
            _connect(host, switch)
        yield made


def _add_namespace(name: str, stack: contextlib.ExitStack) -> None:
    _ip("netns", "add", name)
    stack.callback(_ip, "netns", "del", name)
    _ip("-n", name, "link", "set", "lo", "up")


def _connect(host: Host, switch: str) -> None:
    near, far = "eth0", f"to-{host.name}"
    _ip("-n", switch, "link", "add", far, "type", "veth", "peer", "name", near, "netns", host.namespace)
    _ip("-n", switch, "link", "set", far, "master", "bridge", "up")
    _ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", near)
    _ip("-n", host.namespace, "link", "set", near, "up")


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
