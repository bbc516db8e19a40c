"""How many workers the nodes of a Ray cluster can hold."""

from typing import Any

from sphere_core.foundation.errors import InputError
from workflows.cluster.head_watch import ClusterWatch, Snapshot
from workflows.cluster.placement import Need, Node, room, why_none
from workflows.driver.executor import Role
from workflows.sweeps.resources import Resources, WorkerResources

__all__ = ["RayNodes", "look_at_cluster"]


def look_at_cluster(ray: Any) -> Snapshot:
    """Ask the head about the nodes. `ray` is the imported, connected module. Hangs if the head is gone."""
    leaving = _draining(ray)
    alive = [node for node in ray.nodes() if node["Alive"]]
    return Snapshot(
        nodes=tuple(
            Node(node["NodeManagerAddress"], node["Resources"], node["Labels"])
            for node in alive
            if node["NodeID"] not in leaving
        ),
        alive=frozenset(node["NodeID"] for node in alive),
        leaving=leaving,
        gpus=sum(node["Resources"].get("GPU", 0.0) for node in alive),
    )


def _draining(ray: Any) -> frozenset[str]:
    """Return the nodes with notice; Ray has no public call for it, and an empty answer is safe."""
    try:
        return frozenset(ray._private.state.state.get_draining_nodes())
    except AttributeError:
        return frozenset()


class RayNodes:
    """The remaining nodes as of the last look, for workers with the resources of a sweep."""

    def __init__(self, watch: ClusterWatch, resources: Resources) -> None:
        self._watch = watch
        self._resources = resources
        # Decided once: no sweep is computed partly on one kind of device and partly on another.
        self._auto_gpus = 1.0 if watch.latest().gpus >= 1 else 0.0

    def wish(self, role: Role) -> WorkerResources:
        """Return what the sweep requests for a worker of a role."""
        return self._resources.evaluator if role == "evaluator" else self._resources.replica

    def need(self, role: Role) -> Need:
        """Return what a worker of a role reserves; `auto` is one GPU if the cluster had any at the start."""
        wish = self.wish(role)
        gpus = self._auto_gpus if wish.num_gpus == "auto" else wish.num_gpus
        return Need({"CPU": float(wish.num_cpus), "GPU": float(gpus)}, dict(wish.labels))

    def require_decided(self) -> None:
        """Raise InputError if `auto` would mean no GPU only because no worker node has joined yet."""
        if self.wish("replica").num_gpus == "auto" and not self._auto_gpus and not self.fit("replica", replicas=0):
            raise InputError(
                "the cluster has no GPU and no node that can hold a replica yet: cannot decide whether replicas need a "
                "GPU",
                where="resources.replica.num_gpus, which is 'auto'",
                remedy="give a number, 1 or 0 (none), for replica and evaluator, or start a node first",
            )

    def fit(self, role: Role, *, replicas: int) -> int:
        """Return how many workers of a role the nodes can hold in all.

        Replicas leave room for the dedicated evaluators, unless no replica would fit then. Evaluators take what
        `replicas` replicas leave.
        """
        nodes, replica, evaluator = self._watch.latest().nodes, self.need("replica"), self.need("evaluator")
        if role == "evaluator":
            return room(nodes, evaluator, beside=replica, count=replicas)
        beside = room(nodes, replica, beside=evaluator, count=self._resources.evaluator.replicas)
        return beside or min(1, room(nodes, replica, beside=evaluator, count=0))

    def why_no_replica(self) -> str:
        """Return what a replica requires and what each node has, as text."""
        return why_none(self._watch.latest().nodes, self.need("replica"))
