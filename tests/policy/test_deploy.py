"""The files of deploy/: whole, without secrets, in step with the lock and the docs; the Slurm script really runs."""

import http.server
import importlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, ClassVar

import pytest
import typer
from deploy_parts import CLUSTER_PAGE, DEPLOY, pods, ray_job
from ray_head import ray_head
from repository import REPOSITORY
from sweep_files import results_of, tiny, write_sweep

LOCK = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8")

# The fields of KubeRay's ray.io/v1 that the manifest uses; its reference lists more.
JOB_FIELDS = {
    "entrypoint",
    "entrypointNumCpus",
    "backoffLimit",
    "shutdownAfterJobFinishes",
    "ttlSecondsAfterFinished",
    "rayClusterSpec",
}
CLUSTER_FIELDS = {
    "rayVersion",
    "authOptions",
    "enableInTreeAutoscaling",
    "autoscalerOptions",
    "headGroupSpec",
    "workerGroupSpecs",
}
GROUP_FIELDS = {"groupName", "replicas", "minReplicas", "maxReplicas", "labels", "rayStartParams", "template"}


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    return ray_job()


def test_the_manifest_is_a_rayjob_of_known_fields(job: dict[str, Any]) -> None:
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert set(job["spec"]) == JOB_FIELDS
    cluster = job["spec"]["rayClusterSpec"]
    assert set(cluster) == CLUSTER_FIELDS
    assert set(cluster["headGroupSpec"]) == {"rayStartParams", "template"}
    for group in cluster["workerGroupSpecs"]:
        assert set(group) == GROUP_FIELDS
        assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    # KubeRay hands these to `ray start` as text.
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_the_manifest_asks_for_a_token_and_holds_none(job: dict[str, Any]) -> None:
    assert job["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    # The digest of an image is no secret.
    text = re.sub(r"@sha256:[0-9a-f]{64}", "", (DEPLOY / "rayjob.yaml").read_text(encoding="utf-8"))
    assert re.search(r"RAY_AUTH_TOKEN|[0-9a-f]{32}|AKIA|password", text, flags=re.IGNORECASE) is None


def test_the_manifest_runs_the_sweep_on_shared_storage(job: dict[str, Any]) -> None:
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[:2] == ["sphere", "run"]
    assert words[words.index("--address") + 1] == "auto"
    assert job["spec"]["entrypoint"] in CLUSTER_PAGE
    for pod in pods(job):
        (container,) = pod["containers"]
        mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert all(word.startswith(mounted["storage"]) for word in words if word.startswith("/"))
        assert {volume["name"] for volume in pod["volumes"]} == set(mounted)
        environment = {entry["name"]: entry["value"] for entry in container["env"]}
        assert environment["RAY_USAGE_STATS_ENABLED"] == "0"
        assert environment["HF_HUB_DISABLE_TELEMETRY"] == "1"
        assert container["resources"]["requests"] == container["resources"]["limits"]


def test_one_image_with_the_locked_ray_and_a_head_without_work(job: dict[str, Any]) -> None:
    images = {container["image"] for pod in pods(job) for container in pod["containers"]}
    (image,) = images
    container_file = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
    tagged, _, digest = image.partition("@")
    assert tagged in container_file
    assert tagged in CLUSTER_PAGE
    # By digest; zeros until they are filled in, which no registry serves.
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", digest)
    assert re.search(r"^FROM python:3\.12-slim@sha256:[0-9a-f]{64}$", container_file, flags=re.MULTILINE)
    assert container_file.count("\nFROM ") == 1
    assert "--require-hashes -r requirements.lock" in container_file
    copied = [
        name for line in re.findall(r"^COPY (.+) \S+$", container_file, flags=re.MULTILINE) for name in line.split()
    ]
    assert {"requirements.lock", "sphere_core", "evaluators", "workflows"} <= set(copied)
    assert all((REPOSITORY / name).exists() for name in copied)
    cluster = job["spec"]["rayClusterSpec"]
    assert f"\nray=={cluster['rayVersion']}\n" in LOCK
    head = cluster["headGroupSpec"]["rayStartParams"]
    assert (head["num-cpus"], head["num-gpus"]) == ("0", "0")
    assert job["spec"]["entrypointNumCpus"] == 0


def test_ray_lets_a_pod_end_its_batch_for_nearly_as_long_as_kubernetes_does(job: dict[str, Any]) -> None:
    for group in job["spec"]["rayClusterSpec"]["workerGroupSpecs"]:
        pod = group["template"]["spec"]
        for container in pod["containers"]:
            environment = {entry["name"]: entry["value"] for entry in container["env"]}
            drain = float(environment["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
            assert pod["terminationGracePeriodSeconds"] - 20 <= drain < pod["terminationGracePeriodSeconds"]


class Metadata(http.server.BaseHTTPRequestHandler):
    """What a spot instance can ask of its cloud: 404 until it is taken back."""

    taken_back: ClassVar[threading.Event]

    def do_PUT(self) -> None:
        self._answer(b"token of this session")

    def do_GET(self) -> None:
        asked = (self.path, self.headers["X-aws-ec2-metadata-token"])
        if self.taken_back.is_set() and asked == ("/latest/meta-data/spot/instance-action", "token of this session"):
            self._answer(b'{"action": "terminate", "time": "2026-01-01T00:02:00Z"}')
        else:
            self.send_error(404)

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing on standard error."""


@pytest.mark.ray
@pytest.mark.long
def test_the_notice_of_a_spot_instance_drains_its_node() -> None:
    Metadata.taken_back = threading.Event()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata) as server, ray_head(cpus=1) as head:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "RAY_ADDRESS": head.address,
            "SPHERE_INSTANCE_METADATA": f"http://127.0.0.1:{server.server_port}/latest",
        }
        watcher = subprocess.Popen([DEPLOY / "spot_notice.sh"], env=environment)
        try:
            time.sleep(7)  # it has looked twice
            assert watcher.poll() is None
            Metadata.taken_back.set()
            assert watcher.wait() == 0
        finally:
            watcher.kill()
            server.shutdown()
        # A node that drains and has nothing to do ends by itself.
        state = nodes_of(head.address)
        assert state == [("DEAD", "AUTOSCALER_DRAIN_PREEMPTED")]


def nodes_of(address: str) -> list[tuple[str, str]]:
    """Ask a head for the state of its nodes, and how those that are dead have ended."""
    from ray._raylet import GcsClient
    from ray.core.generated import common_pb2, gcs_pb2

    client = GcsClient(address=address)
    deadline = time.monotonic() + 30
    while True:
        nodes = client.get_all_node_info(timeout=10).values()
        found = [
            (
                gcs_pb2.GcsNodeInfo.GcsNodeState.Name(node.state),
                common_pb2.NodeDeathInfo.Reason.Name(node.death_info.reason),
            )
            for node in nodes
        ]
        if all(state == "DEAD" for state, _ in found) or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


def test_the_slurm_script_is_sound_and_ends_only_what_it_started() -> None:
    script = (DEPLOY / "slurm.sh").read_text(encoding="utf-8")
    subprocess.run(["bash", "-n", str(DEPLOY / "slurm.sh")], check=True)
    assert "ray stop" not in re.sub(r"#.*", "", script)
    assert "RAY_AUTH_MODE=token" in script
    assert "--disable-usage-stats" in script
    assert "0.0.0.0" not in script
    # Ray's folder is inside one of this job alone, which must not be there before.
    assert 'mkdir -m 0700 "$scratch"' in script
    assert '--temp-dir="$scratch/r"' in script
    assert "secrets.token_hex" in script.partition("scratch=")[2].partition("\n")[0]
    assert "sbatch deploy/slurm.sh" in CLUSTER_PAGE


SHIMS = {
    # What Slurm does on the nodes of an allocation happens here; options go, the command stays.
    "srun": '#!/bin/bash\nwhile [[ "$1" == --* ]]; do shift; done\nexec "$@"\n',
    "scontrol": '#!/bin/bash\nif [ "$1" = show ]; then printf "node1\\nnode2\\n"; else echo "$@" >> "$REQUEUED"; fi\n',
    "hostname": "#!/bin/bash\necho 127.0.0.1\n",
}


def start_job(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    """Start the batch script in a made-up allocation of two nodes."""
    for name, text in SHIMS.items():
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {
        "PATH": os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_PER_TASK": "1",
        "REQUEUED": str(folder / "requeued"),
    }
    command = ["bash", str(DEPLOY / "slurm.sh"), *map(str, arguments)]
    log = (folder / "log").open("a", encoding="utf-8")
    return subprocess.Popen(command, env=environment, stdout=log, stderr=log, text=True, start_new_session=True)


@pytest.mark.ray
@pytest.mark.long
def test_a_slurm_job_starts_ray_stops_at_its_time_limit_and_resumes(tmp_path: Path) -> None:
    sweep = write_sweep(
        tmp_path / "sweep",
        tiny(streams=[{"dataset": "factworld", "edits": 60, "order": "shuffled"}], checkpoint_every=20),
    )
    root, log = tmp_path / "root", tmp_path / "log"
    first = start_job(tmp_path, sweep, root)
    while not list(root.glob("trajectories/*/checkpoints/*/manifest.json")):
        assert first.poll() is None, log.read_text()
        time.sleep(0.1)
    # To the batch script alone, as `--signal=B:TERM` has it.
    first.send_signal(signal.SIGTERM)
    assert first.wait() == 130, log.read_text()
    assert (tmp_path / "requeued").read_text().split() == ["requeue", str(os.getpid())]
    states = [json.loads(path.read_text())["state"] for path in root.glob("trajectories/*/progress.json")]
    assert "stopped" in states
    assert "running" not in states

    assert start_job(tmp_path, sweep, root).wait() == 0, log.read_text()
    quiet = [sys.executable, "-m", "workflows.cli", "run", str(sweep), "--local", "--root", str(tmp_path / "quiet")]
    subprocess.run(quiet, cwd=REPOSITORY, check=True, capture_output=True)
    assert results_of(root) == results_of(tmp_path / "quiet") != {}
    assert not list(Path("/tmp").glob(f"s{os.getpid()}-*"))
    # A head and a worker, twice.
    assert log.read_text().count("Ray runtime started") == 4


def test_every_command_of_the_page_exists() -> None:
    used = re.findall(r"\bsphere (\w+) ([^`#\n|]*)", CLUSTER_PAGE)
    assert {name for name, _ in used} >= {"plan", "run", "submit", "stop", "status", "table"}
    for name, arguments in used:
        module = importlib.import_module(f"workflows.commands.{name}")
        known = {option for parameter in typer.main.get_command(module.app).params for option in parameter.opts}
        assert set(re.findall(r"--[\w-]+", arguments)) <= known, (name, arguments)
