"""Replicas follow a cluster up and down while a sweep runs: nodes with labels join, one gets notice and leaves."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster
from sweep_files import results_of, tiny, write_sweep

from sphere_core.foundation.storage import Storage
from workflows.cluster.ray_executor import RayExecutor
from workflows.driver.display import View
from workflows.driver.driver import Driver
from workflows.driver.local_executor import LocalExecutor
from workflows.store.lease import read_lease
from workflows.sweeps.expand import load_sweep
from workflows.sweeps.resources import Resources

pytestmark = [pytest.mark.ray, pytest.mark.long]

SETTINGS = tiny(
    methods=["alphaedit+sphere"],
    seeds=[0],
    streams=[{"dataset": "factworld", "edits": 60, "order": "shuffled"}],
    checkpoint_every=20,
    evaluators={"geometry": {}},
)
RESOURCES = {
    "replica": {"num_cpus": 1, "num_gpus": 0, "labels": {"kind": "edit"}},
    "evaluator": {"num_cpus": 1, "num_gpus": 0, "labels": {"kind": "score"}, "replicas": 1},
}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head that does no work; nodes are added by the test."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 80 << 20})
    yield made
    ray.shutdown()
    made.shutdown()


def give_notice(node_id: str) -> None:
    """Tell a node that it will be taken away in a minute, as a cloud tells a spot instance."""
    client = ray._private.worker.global_worker.gcs_client
    preemption = 2
    deadline = int((time.time() + 60) * 1000)
    accepted, reason = client.drain_node(node_id, preemption, "spot instance reclaimed", deadline)
    assert accepted, reason


class Weather:
    """Watches a run, adds the nodes once the want of them was said, and takes one away in the middle."""

    def __init__(self, cluster: Cluster, log: pytest.LogCaptureFixture) -> None:
        self.cluster, self.log = cluster, log
        self.editing = None
        self.noticed: int | None = None

    def update(self, view: View) -> None:
        if self.editing is None and "no node can hold a replica" in self.log.text:
            self.editing = self.add("edit")
            self.add("score")
        running = [p for p in view.doing.values() if p.editing and p.published]
        if self.noticed is None and self.editing is not None and running:
            self.noticed = running[0].edits
            give_notice(self.editing.node_id)
            self.add("edit")

    def add(self, kind: str):
        return self.cluster.add_node(num_cpus=1, labels={"kind": kind}, object_store_memory=80 << 20)


def test_replicas_follow_the_cluster(cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sweep = load_sweep(write_sweep(tmp_path, SETTINGS))
    storage = Storage(tmp_path / "root")
    weather = Weather(cluster, caplog)
    resources = Resources.model_validate(RESOURCES)
    with (
        caplog.at_level(logging.WARNING, logger="workflows"),
        RayExecutor(str(tmp_path / "root"), resources, address=cluster.address) as executor,
    ):
        result = Driver(sweep, executor, storage, weather, evaluators=1).run()
        places = {(worker.role, place.node) for worker, place in executor._place_of.items()}
    assert result.complete
    assert "one needs 1 CPU, 0 GPU, label kind=edit. Nodes:" in caplog.text
    # The node with notice was left at the next batch, with what was done published, for the one that came.
    assert weather.noticed is not None
    assert "is about to go" in caplog.text
    lease = read_lease(storage, sweep.plan.trajectories[0].id)
    assert lease is not None
    assert lease.attempt == 2
    assert {role for role, _ in places} == {"replica", "evaluator"}
    assert len({node for _, node in places}) == 2
    assert weather.editing.node_id not in {node for _, node in places}

    quiet = tmp_path / "quiet"
    alone = LocalExecutor(str(quiet), threads=1, device="cpu")
    driver = Driver(sweep, alone, Storage(quiet), weather, evaluators=0)
    assert driver.run().complete
    assert results_of(tmp_path / "root") == results_of(quiet) != {}
