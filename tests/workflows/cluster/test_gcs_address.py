"""Addresses that lead to no cluster are told at once, with what to do."""

import socket
import threading
from pathlib import Path

import pytest

from sphere_core.foundation.errors import InputError
from workflows.cluster.capacity import RayNodes
from workflows.cluster.gcs_address import require_answer
from workflows.cluster.head_watch import ClusterWatch, Snapshot
from workflows.cluster.placement import Node
from workflows.cluster.ray_executor import RayExecutor
from workflows.sweeps.resources import Resources


@pytest.mark.parametrize("address", ["ray://127.0.0.1:10001", "http://127.0.0.1:8265", "nonsense", "host:", ":6379"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InputError, match="not of the form HOST:PORT") as caught:
        require_answer(address)
    assert "sphere submit" in str(caught.value.remedy)


def test_an_address_without_an_answer_is_reported_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        require_answer(address)
    with pytest.raises(InputError, match=r"no answer: .*refused"):
        RayExecutor(str(tmp_path), Resources(), address=address)


def nodes(resources: dict[str, object], *alive: Node) -> RayNodes:
    snapshot = Snapshot(alive, frozenset(), frozenset(), sum(node.has.get("GPU", 0.0) for node in alive))
    watch = ClusterWatch(lambda: snapshot, "head:6379", every_seconds=60.0)
    watch.close()
    return RayNodes(watch, Resources.model_validate(resources))


HEAD = Node("head", {"CPU": 0.0, "GPU": 0.0}, {})
CPU, GPU = Node("cpu", {"CPU": 4.0, "GPU": 0.0}, {}), Node("gpu", {"CPU": 8.0, "GPU": 1.0}, {})


@pytest.mark.parametrize(
    ("asked", "alive", "gpus"), [("auto", [HEAD, CPU], 0), ("auto", [HEAD, GPU], 1), (0, [HEAD], 0), (1, [HEAD], 1)]
)
def test_gpus_are_what_the_sweep_says_or_what_the_cluster_has(asked: object, alive: list[Node], gpus: float) -> None:
    found = nodes({"replica": {"num_gpus": asked}}, *alive)
    found.require_decided()
    assert found.need("replica").amounts["GPU"] == gpus


def test_a_cluster_whose_workers_are_still_to_come_does_not_decide_about_gpus() -> None:
    # As an autoscaling cluster begins: `auto` would mean none, and GPU nodes would compute on their CPUs.
    with pytest.raises(InputError, match="no GPU and no node that can hold a replica yet") as caught:
        nodes({"max_replicas": 2}, HEAD).require_decided()
    assert "give a number" in str(caught.value.remedy)


def test_gpus_are_decided_once() -> None:
    alive = [HEAD, CPU]
    turn = threading.Event()

    def look() -> Snapshot:
        turn.set()
        return Snapshot(tuple(alive), frozenset(), frozenset(), sum(node.has["GPU"] for node in alive))

    watch = ClusterWatch(look, "head:6379", every_seconds=0.01)
    found = RayNodes(watch, Resources())
    alive.append(GPU)
    while watch.latest().gpus == 0:
        turn.clear()
        assert turn.wait(5)
    assert found.need("replica").amounts["GPU"] == 0
    watch.close()
