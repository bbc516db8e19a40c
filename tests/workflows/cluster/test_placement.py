"""What the nodes of a cluster can hold, role by role, and what is said when they hold nothing."""

import pytest

from workflows.cluster.placement import Need, Node, matches, room, why_none
from workflows.sweeps.resources import Resources


def node(cpus: float, gpus: float = 0, **labels: str) -> Node:
    return Node(f"node-{cpus:g}-{gpus:g}", {"CPU": cpus, "GPU": gpus, "memory": 1e9}, labels)


def need(cpus: float, gpus: float = 0, **labels: str) -> Need:
    return Need({"CPU": cpus, "GPU": gpus}, labels)


@pytest.mark.parametrize(
    ("nodes", "one", "fits"),
    [
        ([node(8, 8)], need(1, 1), 8),
        ([node(8, 8)], need(2, 1), 4),
        ([node(8, 1)], need(1, 0.5), 2),
        ([node(8, 1)], need(1, 1 / 3), 3),
        ([node(8, 8), node(8, 4)], need(1, 2), 6),
        # A replica cannot lie across two nodes, whatever they have together.
        ([node(2), node(2), node(2)], need(3), 0),
        ([node(4, 1), node(4, 1)], need(1, 2), 0),
        ([node(0)], need(1), 0),
        ([], need(1), 0),
        ([node(8, 4, kind="a"), node(8, 4, kind="b")], need(1, 1, kind="b"), 4),
        ([node(8, 4, kind="a"), node(8, 4, kind="b"), node(8, 4)], need(1, 1, kind="!a"), 8),
        ([node(8, 4, kind="a"), node(8, 4, kind="b"), node(8, 4)], need(1, 1, kind="in(a, b)"), 8),
        ([node(8, 4, kind="a"), node(8, 4)], need(1, 1, kind="c"), 0),
    ],
)
def test_room_is_counted_node_by_node(nodes: list[Node], one: Need, fits: int) -> None:
    assert room(nodes, one, beside=need(1), count=0) == fits


@pytest.mark.parametrize(
    ("nodes", "evaluator", "count", "fits"),
    [
        # One of three places goes to the evaluator.
        ([node(3)], need(1), 1, 2),
        # An evaluator without a GPU goes where no replica could live.
        ([node(4, 4), node(4, 0)], need(1), 1, 4),
        ([node(4, 4), node(4, 0)], need(4), 1, 4),
        # With labels the two kinds never share a node.
        ([node(4, 4, role="edit"), node(4, 4, role="score")], need(1, 1, role="score"), 4, 4),
        # An evaluator that fits nowhere costs nothing.
        ([node(2, 2)], need(64), 1, 2),
    ],
)
def test_the_other_kind_takes_the_cheapest_places(nodes: list[Node], evaluator: Need, count: int, fits: int) -> None:
    labels = {"role": "edit"} if "role" in evaluator.labels else {}
    replica = need(1, 1 if any(n.has["GPU"] for n in nodes) else 0, **labels)
    assert room(nodes, replica, beside=evaluator, count=count) == fits


def test_labels_in_rays_syntax() -> None:
    labels = {"kind": "spot", "ray.io/accelerator-type": "H200"}
    assert matches({}, labels)
    assert matches({"ray.io/accelerator-type": "in(H100,H200)", "kind": "!on-demand"}, labels)
    assert not matches({"kind": "!in(spot,cheap)"}, labels)
    assert not matches({"zone": "a"}, labels)
    assert matches({"zone": "!a"}, labels)


def test_the_reason_names_what_was_asked_and_what_is_there() -> None:
    said = why_none([node(0), node(8, 0, kind="cpu")], need(4, 2, kind="gpu"))
    assert said == (
        "no node can hold a replica: one needs 4 CPU, 2 GPU, label kind=gpu. "
        "Nodes: node-0-0: 0 CPU, 0 GPU, kind=unset; node-8-0: 8 CPU, 0 GPU, kind=cpu"
    )
    assert why_none([], need(1)).endswith("Nodes: none")


@pytest.mark.parametrize("gpus", [1.5, -1, 2.25])
def test_gpus_are_a_fraction_of_one_or_whole(gpus: float) -> None:
    with pytest.raises(ValueError, match="a fraction of one, or a whole number"):
        Resources.model_validate({"replica": {"num_gpus": gpus}})
    assert Resources.model_validate({"replica": {"num_gpus": 0.25}, "evaluator": {"num_gpus": 2}})
