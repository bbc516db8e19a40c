"""The tunnel to a cluster of Ray's launcher: `ray dashboard` is real, ssh is a stand-in that forwards the port."""

import json
import os
import sys
import threading
import urllib.request
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ray.autoscaler._private.local.config import get_lock_path, get_state_path

from sphere_core.foundation.errors import InputError
from workflows.cluster.jobs_address import cluster_address
from workflows.cluster.tunnel import tunnel

SSH = """#!{python}
import os, socket, sys, threading

near, _, far = sys.argv[sys.argv.index("-L") + 1].split(":")
assert far == "8265"


def pump(source, sink):
    while data := source.recv(4096):
        sink.sendall(data)
    sink.shutdown(socket.SHUT_WR)


def serve(listening):
    while True:
        here = listening.accept()[0]
        there = socket.create_connection(("127.0.0.1", int(os.environ["DASHBOARD"])))
        for pair in ((here, there), (there, here)):
            threading.Thread(target=pump, args=pair, daemon=True).start()


threading.Thread(target=serve, args=(socket.create_server(("127.0.0.1", int(near))),), daemon=True).start()
with open(os.environ["SSH_PID"], "w") as file:
    file.write(str(os.getpid()))
sys.stdin.read()
"""


class Dashboard(BaseHTTPRequestHandler):
    """Answers as the far end of the tunnel."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"the dashboard")

    def log_message(self, format: str, *values: object) -> None:
        pass


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A launcher file for one machine, and an ssh that leads to a server on loopback."""
    (tmp_path / "ssh").write_text(SSH.format(python=sys.executable), encoding="utf-8")
    (tmp_path / "ssh").chmod(0o755)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Dashboard)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("DASHBOARD", str(server.server_port))
    monkeypatch.setenv("SSH_PID", str(tmp_path / "pid"))
    name = f"tunnel-{uuid.uuid4().hex[:8]}"
    path = tmp_path / "cluster.yaml"
    text = (
        f"cluster_name: {name}\nprovider: {{type: local, head_ip: 127.0.0.1, worker_ips: []}}\nauth: {{ssh_user: me}}\n"
    )
    path.write_text(text, encoding="utf-8")
    yield path
    server.shutdown()
    for left in (get_state_path(name), get_lock_path(name)):
        Path(left).unlink(missing_ok=True)


def bring_up(cluster: Path) -> None:
    """Note in Ray's own file that the head is up, as `ray up` does at its end."""
    state = Path(get_state_path(cluster.read_text().split()[1]))
    tags = {"ray-node-type": "head", "ray-node-status": "up-to-date", "ray-node-name": "head"}
    tags["ray-user-node-type"] = "local.cluster.node"
    state.write_text(json.dumps({"127.0.0.1": {"tags": tags, "state": "running"}}), encoding="utf-8")


def test_a_tunnel_leads_to_the_dashboard_and_is_closed(cluster: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no tunnel to the cluster.*not found"), tunnel(cluster):
        pass
    bring_up(cluster)
    with cluster_address(None, cluster, insecure=False) as address:
        assert address.startswith("http://127.0.0.1:")
        assert urllib.request.urlopen(address, timeout=600).read() == b"the dashboard"
        ssh = int((tmp_path / "pid").read_text())
        assert Path(f"/proc/{ssh}").exists()
    stat = Path(f"/proc/{ssh}/stat")
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_cluster_is_named_in_one_way(tmp_path: Path) -> None:
    for address, file in ((None, None), ("http://127.0.0.1:8265", tmp_path)):
        with pytest.raises(InputError, match="one of them"), cluster_address(address, file, insecure=False):
            pass
    with pytest.raises(InputError, match="cluster file not found"), tunnel(tmp_path / "none.yaml"):
        pass
