"""The deaths that take a real cluster: its head is killed, its memory watch kills a replica. By hand: `-m long`."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from local_runs import Quiet
from ray.cluster_utils import Cluster
from ray_head import ray_head
from replicas import MOST_GIGABYTES
from repository import REPOSITORY, TESTS
from sweep_files import results_of, tiny, write_sweep

from sphere_core.foundation.storage import Storage
from workflows.cluster.head_watch import PATIENCE_SECONDS
from workflows.cluster.ray_executor import RayExecutor
from workflows.driver.display import View
from workflows.driver.driver import Driver
from workflows.store.lease import read_lease
from workflows.store.state import derive_state
from workflows.sweeps.expand import load_sweep
from workflows.sweeps.resources import Resources

pytestmark = [pytest.mark.ray, pytest.mark.long]

SETTINGS = tiny(methods=["memit"], seeds=[0], streams=[{"dataset": "factworld", "edits": 60, "order": "shuffled"}])


def sphere(log: Path, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "workflows.cli", *map(str, arguments)]
    with log.open("a", encoding="utf-8") as out:
        return subprocess.Popen(
            command, cwd=REPOSITORY, env={**os.environ, **environment}, stdout=out, stderr=out, text=True
        )


def wait_until(holds: Callable[[], object], process: subprocess.Popen[str], log: Path) -> None:
    while not holds():
        assert process.poll() is None, log.read_text(encoding="utf-8")
        time.sleep(0.1)


def test_a_head_that_is_killed_ends_the_run_with_a_word_and_nothing_is_lost(tmp_path: Path) -> None:
    sweep, root, log = write_sweep(tmp_path / "spec", SETTINGS), tmp_path / "root", tmp_path / "log"
    with ray_head(cpus=2) as head:
        run = sphere(log, "run", sweep, "--root", root, "--address", head.address)
        wait_until(lambda: list(root.glob("trajectories/*/checkpoints/*/manifest.json")), run, log)
        below = psutil.Process(head.process).children(recursive=True)
        (control,) = (process for process in below if process.name() == "gcs_server")
        control.kill()
        assert run.wait(timeout=PATIENCE_SECONDS + 45) == 1, log.read_text(encoding="utf-8")
    said = " ".join(log.read_text(encoding="utf-8").split())
    assert "does not answer any more" in said
    assert "run the same command to resume from the last checkpoints" in said
    assert "Traceback" not in said
    state = derive_state(Storage(root), load_sweep(sweep).plan)
    assert (state.is_complete, state.failures) == (False, [])
    # The driver's lock went with it, and what stands is gone on from.
    assert sphere(log, "run", sweep, "--root", root, "--local").wait() == 0
    assert sphere(log, "run", sweep, "--root", tmp_path / "quiet", "--local").wait() == 0
    assert results_of(root) == results_of(tmp_path / "quiet") != {}
    starts = [json.loads(path.read_text())["from"] for path in sorted(root.glob("trajectories/*/attempts/*.json"))]
    assert len(starts) == 2
    assert starts[1] > 0


def test_the_raylet_of_a_local_run_that_is_killed_ends_it_with_a_word(tmp_path: Path) -> None:
    sweep, root, log = write_sweep(tmp_path / "spec", SETTINGS), tmp_path / "root", tmp_path / "log"
    run = sphere(log, "run", sweep, "--root", root, "--num-cpus", 1)
    wait_until(lambda: list(root.glob("trajectories/*/checkpoints/*/manifest.json")), run, log)
    below = psutil.Process(run.pid).children(recursive=True)
    (raylet,) = (process for process in below if process.name() == "raylet")
    raylet.kill()
    assert run.wait(timeout=PATIENCE_SECONDS + 60) == 1, log.read_text(encoding="utf-8")
    said = " ".join(log.read_text(encoding="utf-8").split())
    assert "the node of the Ray that was started here has died" in said
    assert "run the same command to resume from the last checkpoints" in said
    assert "Traceback" not in said
    assert derive_state(Storage(root), load_sweep(sweep).plan).failures == []
    while any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in below):
        time.sleep(0.2)
    assert sphere(log, "run", sweep, "--root", root, "--local").wait() == 0


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT], ids=lambda s: s.name)
def test_a_driver_takes_any_end_of_a_replica_for_what_it_is(tmp_path: Path, signal_number: signal.Signals) -> None:
    sweep, root, log = write_sweep(tmp_path / "spec", SETTINGS), tmp_path / "root", tmp_path / "log"
    run = sphere(log, "run", sweep, "--root", root, "--num-cpus", 1)
    wait_until(lambda: list(root.glob("trajectories/*/checkpoints/*/manifest.json")), run, log)
    (lease,) = root.glob("trajectories/*/lease.json")
    os.kill(int(json.loads(lease.read_text())["owner"].rpartition(":")[2]), signal_number)
    assert run.wait() == 0, log.read_text(encoding="utf-8")
    assert "was lost with trajectory-" in log.read_text(encoding="utf-8")
    assert json.loads(lease.read_text())["attempt"] == 2


def test_the_memory_watch_kills_a_replica_twice_and_the_trajectory_has_failed_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = psutil.virtual_memory()
    # Room for Ray and a replica at rest, and for some of what the replica will take.
    threshold = (memory.total - memory.available + 4.5 * 2**30) / memory.total
    if threshold + MOST_GIGABYTES * 2**30 / memory.total > 0.9:
        pytest.skip("too little memory is free")
    monkeypatch.setenv("RAY_memory_usage_threshold", f"{threshold:.4f}")
    # Ray's workers find the hungry replica there.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), str(TESTS / "support")]))
    sweep, storage = load_sweep(write_sweep(tmp_path / "spec", SETTINGS)), Storage(tmp_path / "root")
    resources = Resources.model_validate({"threads": 1, "evaluator": {"replicas": 0}})
    with RayExecutor(storage.uri, resources, address=None, num_cpus=1, replica="replicas:Hungry") as executor:
        result = Driver(sweep, executor, storage, Quiet(), evaluators=0).run()
    assert not result.complete
    (failure,) = result.failures
    assert failure.error == "OutOfMemory"
    assert "2 times" in failure.message
    assert "killed due to the node running low on memory" in failure.message
    assert [lease.attempt for lease in [read_lease(storage, sweep.plan.trajectories[0].id)] if lease] == [2]


def test_a_node_is_lost_once_with_all_that_was_on_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # A short trajectory whose replica then idles on the same node as that of the long one.
    streams = [{"dataset": "factworld", "edits": edits, "order": "shuffled"} for edits in (4, 60)]
    # No checkpoint to score while the long one runs.
    settings = {**SETTINGS, "streams": streams, "checkpoint_every": 60}
    sweep, storage = load_sweep(write_sweep(tmp_path / "spec", settings)), Storage(tmp_path)
    long = max(sweep.plan.trajectories, key=lambda plan: plan.edits).id
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 80 << 20})
    node = cluster.add_node(num_cpus=2, object_store_memory=80 << 20)
    gone: list[int] = []

    class Weather:
        def update(self, view: View) -> None:
            running = [p for p in view.doing.values() if p.task == f"trajectory-{long}" and p.edits >= 10]
            if running and len(view.doing) == 1 and view.counts.trajectories_done == 1 and not gone:
                gone.append(running[0].edits)
                cluster.remove_node(node, allow_graceful=False)
                cluster.add_node(num_cpus=2, object_store_memory=80 << 20)

    resources = Resources.model_validate({"threads": 1, "evaluator": {"replicas": 0}})
    try:
        with (
            caplog.at_level(logging.WARNING, logger="workflows"),
            RayExecutor(storage.uri, resources, address=cluster.address) as executor,
        ):
            result = Driver(sweep, executor, storage, Weather(), evaluators=0).run()
    finally:
        cluster.shutdown()
    assert gone
    assert (result.complete, result.failures) == (True, ())
    assert caplog.text.count(f"was lost with trajectory-{long}") == 1
    assert "its node is out of reach" in caplog.text
    lease = read_lease(storage, long)
    assert lease is not None
    assert lease.attempt == 2
