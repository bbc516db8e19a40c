"""Replicas as Ray actors. The only module that imports Ray.

Ray gives placement, processes and liveness; it stores nothing. It is imported when a connection is made, not before:
it reads its authentication mode once, at import, and that must be prepared first.
"""

import logging
import math
from types import TracebackType
from typing import Any, Self

from sphere_core.errors import InputError
from workflows.executor import Event, Finished, Lost, Ready, Role, Worker
from workflows.ray_environment import prepare_client_environment, prepare_cluster_environment
from workflows.ray_scratch import RayScratch
from workflows.replica import ModelReplica
from workflows.spec import Resources, WorkerResources
from workflows.tasks import ReplicaProgress, Task

__all__ = ["RayExecutor"]

# Nothing large goes through the object store: tasks and outcomes only.
_OBJECT_STORE_BYTES = 100 << 20
_PROGRESS_SECONDS = 0.2
_LOGGER = logging.getLogger(__name__)


class RayExecutor:
    """Starts Ray on this machine, or attaches to a cluster, and runs one actor a replica.

    Actors are never restarted and calls never retried by Ray: a restarted actor is empty, and what is to be done
    again is decided by the driver, from files. Use as a context manager.
    """

    def __init__(self, root: str, resources: Resources, *, address: str | None, num_cpus: int | None = None) -> None:
        if address is None:
            prepare_cluster_environment()
        else:
            prepare_client_environment()
        import ray  # reads the environment prepared above, once

        self._ray: Any = ray
        self._root = root
        self._attached = address is not None
        self._resources = resources
        self._scratch: RayScratch | None = None
        self._actors: dict[Worker, Any] = {}
        self._pending: dict[Any, tuple[Worker, Task | None]] = {}
        self._asked: dict[Any, Worker] = {}
        self._started = 0
        self._replica_class = _replica_class(ray)
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if address is not None:
            ray.init(address=address, **quiet)
        else:
            self._scratch = RayScratch()
            ray.init(
                address="local",
                num_cpus=num_cpus,
                include_dashboard=False,
                dashboard_host="127.0.0.1",
                object_store_memory=_OBJECT_STORE_BYTES,
                _temp_dir=str(self._scratch.path),
                **quiet,
            )
            try:
                self._require_room()
            except InputError:
                self.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def most(self, role: Role) -> int:
        """Return how many workers of a role to have at most, beside those of the other role.

        As many as all nodes alive can hold. On a cluster there is at least one replica, and `max_replicas` where
        given, whether they fit or not: an actor that waits for a place makes an autoscaler add one.
        """
        fit = self._fit(role)
        if role == "evaluator":
            return min(fit, self._resources.evaluator.replicas)
        limit = self._resources.max_replicas
        if self._attached:
            return limit if limit is not None else max(fit, 1)
        return fit if limit is None else min(fit, limit)

    def start(self, role: Role) -> Worker:
        """Start an actor; it is ready when it has imported what it needs."""
        wish = self._wish(role)
        need = self._need(role)
        self._started += 1
        worker = Worker(self._started, role)
        options: dict[str, Any] = {
            "num_cpus": need["CPU"],
            "num_gpus": need["GPU"],
            "max_restarts": 0,
            "max_task_retries": 0,
            "scheduling_strategy": "SPREAD",
        }
        if wish.labels:
            options["label_selector"] = dict(wish.labels)
        device = "cpu" if wish.device == "auto" and need["GPU"] == 0 else wish.device
        actor_class = self._replica_class.options(**options)
        actor = actor_class.remote(self._root, threads=self._resources.threads, device=device)
        self._actors[worker] = actor
        self._pending[actor.__ray_ready__.remote()] = (worker, None)
        return worker

    def assign(self, worker: Worker, task: Task) -> None:
        """Call the actor; at most one such call is under way for each."""
        self._pending[self._actors[worker].run.remote(task)] = (worker, task)

    def wait(self, seconds: float) -> list[Event]:
        """Return the calls that came back, and the actors that died with theirs."""
        if not self._pending:
            return []
        self._ray.wait(list(self._pending), num_returns=1, timeout=seconds)
        done, _ = self._ray.wait(list(self._pending), num_returns=len(self._pending), timeout=0)
        return [self._outcome(reference) for reference in done]

    def progress(self) -> dict[Worker, ReplicaProgress]:
        """Ask the busy actors what they do; one that does not answer now is asked again at the next call."""
        busy = [worker for worker, task in self._pending.values() if task is not None]
        asked = set(self._asked.values())
        for worker in busy:
            if worker not in asked:
                self._asked[self._actors[worker].progress.remote()] = worker
        if not self._asked:
            return {}
        answered, _ = self._ray.wait(list(self._asked), num_returns=len(self._asked), timeout=_PROGRESS_SECONDS)
        said = {}
        for reference in answered:
            worker = self._asked.pop(reference)
            try:
                said[worker] = self._ray.get(reference)
            except self._ray.exceptions.RayError:
                continue  # its death is told by the call it was busy with
        return said

    def stop_work(self) -> None:
        """Raise the stop flag of every actor."""
        for actor in self._actors.values():
            actor.stop.remote()

    def close(self) -> None:
        """End all actors and, where Ray was started here, Ray."""
        if not self._ray.is_initialized():
            return
        for actor in self._actors.values():
            self._ray.kill(actor)
        self._actors.clear()
        self._ray.shutdown()
        if self._scratch is not None:
            self._scratch.remove()

    def _outcome(self, reference: Any) -> Event:
        worker, task = self._pending.pop(reference)
        try:
            outcome = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            # An actor that is merely unreachable may still be writing; it is ended, and fenced by its lease.
            self._ray.kill(self._actors.pop(worker))
            return Lost(worker, task, f"{type(error).__name__}: {_first_line(error)}")
        if task is None:
            return Ready(worker)
        return Finished(worker, task, outcome)

    def _fit(self, role: Role) -> int:
        """Return how many workers of a role all nodes alive can hold.

        Replicas leave room for the dedicated evaluators, unless not even one replica would fit then. Evaluators take
        what replicas have left.
        """
        total = dict(self._ray.cluster_resources())
        if role == "replica":
            beside = self._holds(_less(total, self._need("evaluator"), self._resources.evaluator.replicas), role)
            return beside or min(1, self._holds(total, role))
        replicas = sum(worker.role == "replica" for worker in self._actors)
        return self._holds(_less(total, self._need("replica"), replicas), role)

    def _holds(self, free: dict[str, float], role: Role) -> int:
        need = {name: amount for name, amount in self._need(role).items() if amount > 0}
        room = [math.floor(free.get(name, 0.0) / amount + 1e-9) for name, amount in need.items()]
        return max(0, min(room, default=1))

    def _require_room(self) -> None:
        if self._fit("replica") == 0:
            need = ", ".join(f"{amount:g} {name}" for name, amount in self._need("replica").items())
            raise InputError(
                f"this machine cannot hold a single replica: one needs {need}",
                where="sweep file, key resources.replica",
                remedy="ask for less, or give the --address of a cluster that has more",
            )

    def _wish(self, role: Role) -> WorkerResources:
        return self._resources.evaluator if role == "evaluator" else self._resources.replica

    def _need(self, role: Role) -> dict[str, float]:
        wish = self._wish(role)
        if wish.num_gpus == "auto":
            gpus = 1.0 if self._ray.cluster_resources().get("GPU", 0) >= 1 else 0.0
        else:
            gpus = float(wish.num_gpus)
        return {"CPU": float(wish.num_cpus), "GPU": gpus}


def _replica_class(ray: Any) -> Any:
    """Return the actor class: the replica, its control verbs answering while a long `run` goes on."""

    class Replica(ModelReplica):
        @ray.method(concurrency_group="control")
        def progress(self) -> ReplicaProgress:
            return ModelReplica.progress(self)

        @ray.method(concurrency_group="control")
        def stop(self) -> None:
            ModelReplica.stop(self)

    return ray.remote(concurrency_groups={"control": 1})(Replica)


def _less(free: dict[str, float], need: dict[str, float], count: int) -> dict[str, float]:
    return {**free, **{name: free.get(name, 0.0) - count * amount for name, amount in need.items()}}


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else ""
