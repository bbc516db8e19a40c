"""What the nodes of a Ray cluster can hold, and which of them have notice to leave."""

from typing import Any

from workflows.executor import Role
from workflows.placement import Need, Node, room, why_none
from workflows.spec import Resources, WorkerResources

__all__ = ["RayNodes"]


class RayNodes:
    """The nodes alive, for workers with the resources of a sweep. `ray` is the imported module, connected."""

    def __init__(self, ray: Any, resources: Resources) -> None:
        self._ray = ray
        self._resources = resources

    def wish(self, role: Role) -> WorkerResources:
        """Return what the sweep asks for a worker of a role."""
        return self._resources.evaluator if role == "evaluator" else self._resources.replica

    def need(self, role: Role) -> Need:
        """Return what a worker of a role reserves; `auto` is one GPU where the cluster has any."""
        wish = self.wish(role)
        gpus = wish.num_gpus
        if gpus == "auto":
            gpus = 1.0 if self._ray.cluster_resources().get("GPU", 0) >= 1 else 0.0
        return Need({"CPU": float(wish.num_cpus), "GPU": float(gpus)}, dict(wish.labels))

    def fit(self, role: Role, *, replicas: int) -> int:
        """Return how many workers of a role the nodes can hold in all.

        Replicas leave room for the dedicated evaluators, unless not even one replica would fit then. Evaluators take
        what `replicas` replicas have left.
        """
        nodes, replica, evaluator = self._staying(), self.need("replica"), self.need("evaluator")
        if role == "evaluator":
            return room(nodes, evaluator, beside=replica, count=replicas)
        beside = room(nodes, replica, beside=evaluator, count=self._resources.evaluator.replicas)
        return beside or min(1, room(nodes, replica, beside=evaluator, count=0))

    def why_no_replica(self) -> str:
        """Say what a replica needs and what each node has."""
        return why_none(self._staying(), self.need("replica"))

    def draining(self) -> set[str]:
        """Return the nodes with notice; Ray has no public way to ask, and none is a safe answer."""
        try:
            return set(self._ray._private.state.state.get_draining_nodes())
        except (AttributeError, self._ray.exceptions.RayError):
            return set()

    def _staying(self) -> list[Node]:
        """Return the nodes alive that have no notice to leave."""
        draining = self.draining()
        return [
            Node(node["NodeManagerAddress"], node["Resources"], node["Labels"])
            for node in self._ray.nodes()
            if node["Alive"] and node["NodeID"] not in draining
        ]
