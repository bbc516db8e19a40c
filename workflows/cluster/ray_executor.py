"""Replicas as Ray actors.

Ray provides placement, processes and liveness; it stores nothing. It is imported when a connection is made, not before:
it reads its authentication mode once, at import, and that must be prepared first.
"""

import logging
import math
import time
from collections.abc import Set
from types import TracebackType
from typing import Any, Self

from sphere_core.foundation.errors import InputError
from sphere_core.models.devices import SPLIT
from workflows.cluster.actor import Place, replica_actor
from workflows.cluster.capacity import RayNodes, look_at_cluster
from workflows.cluster.connection import attach, gist, start_ray
from workflows.cluster.environment import prepare_client_environment, prepare_cluster_environment
from workflows.cluster.head_watch import ClusterWatch
from workflows.cluster.progress_polls import ProgressPolls
from workflows.cluster.scratch import RayScratch
from workflows.driver.executor import Event, ExecutorError, Finished, Leaving, Listener, Lost, Ready, Role, Worker
from workflows.replicas.start import MODEL_REPLICA
from workflows.replicas.tasks import Task
from workflows.sweeps.resources import Resources

__all__ = ["RayExecutor"]

# Seconds between looks for notices, and between reports that no node can hold a replica.
_LOOK_SECONDS = 2.0
_REPEAT_SECONDS = 300.0
_LOGGER = logging.getLogger(__name__)


class RayExecutor:
    """Starts Ray on this machine, or attaches to a cluster, and runs one actor per replica.

    Ray never restarts actors and never retries calls: a restarted actor would be empty, and the driver decides from
    files what is repeated. Use as a context manager.
    """

    def __init__(
        self,
        root: str,
        resources: Resources,
        *,
        address: str | None,
        num_cpus: int | None = None,
        replica: str = MODEL_REPLICA,
    ) -> None:
        """`replica` names the class that an actor holds, as `module:name`: this process does not import it."""
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
        self._progress = ProgressPolls(ray)
        self._to_stop: set[Worker] = set()
        self._place_of: dict[Worker, Place] = {}
        self._told_to_leave: set[Worker] = set()
        self._seen: frozenset[str] = frozenset()
        self._looked = self._complained = -math.inf
        self._started = 0
        self._classes: dict[Role, Any] = {
            "replica": replica_actor(ray, replica, "Replica"),
            "evaluator": replica_actor(ray, replica, "Evaluator"),
        }
        if address is not None:
            attach(ray, address)
        else:
            self._scratch = start_ray(ray, num_cpus)
        gcs = ray.get_runtime_context().gcs_address
        self._watch = ClusterWatch(lambda: look_at_cluster(ray), gcs)
        self._nodes = RayNodes(self._watch, resources)
        try:
            self._require_room()
        except InputError:
            self.close()
            raise

    def _require_room(self) -> None:
        if self._attached:
            self._nodes.require_decided()
        elif not self._fit("replica"):
            raise InputError(
                self._nodes.why_no_replica(),
                where="sweep file, key resources.replica",
                remedy="request less, or give the --address of a cluster that has more",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def most(self, role: Role) -> int:
        """Return the largest number of workers of a role, given those of the other role.

        Without `max_replicas`, as many as all live nodes can hold, on a cluster at least one replica. With it, that
        many replicas and all evaluators, whether they fit or not: an actor that waits for a place makes an autoscaler
        add a node.
        """
        fit, limit = self._fit(role), self._resources.max_replicas
        if role == "evaluator":
            wanted = self._resources.evaluator.replicas
            return wanted if self._attached and limit is not None else min(fit, wanted)
        if self._attached:
            return limit if limit is not None else max(fit, 1)
        return fit if limit is None else min(fit, limit)

    def start(self, role: Role) -> Worker:
        """Start an actor; it is ready when its imports are done."""
        wish, need = self._nodes.wish(role), self._nodes.need(role).amounts
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
        device = wish.device
        if device == "auto" and need["GPU"] == 0:
            device = "cpu"
        elif device == "auto" and need["GPU"] > 1:
            device = SPLIT
        actor_class = self._classes[role].options(**options)
        actor = actor_class.remote(self._root, threads=self._resources.threads, device=device)
        self._actors[worker] = actor
        self._pending[actor.place.remote()] = (worker, None)
        return worker

    def assign(self, worker: Worker, task: Task) -> None:
        """Call the actor; at most one such call per actor is under way."""
        self._pending[self._actors[worker].run.remote(task)] = (worker, task)

    def wait(self, seconds: float) -> list[Event]:
        """Return the calls that ended, the actors that died with theirs, and those whose node has notice to leave.

        Raises ExecutorError if the head of the cluster has not answered for a while.
        """
        events = self._look()
        self._send_stops()
        busy = [worker for worker, task in self._pending.values() if task is not None]
        self._progress.ask({worker: self._actors[worker] for worker in busy if worker in self._actors})
        if not self._pending:
            time.sleep(0 if events else seconds)
            return events
        self._ray.wait(list(self._pending), num_returns=1, timeout=0 if events else seconds)
        done, _ = self._ray.wait(list(self._pending), num_returns=len(self._pending), timeout=0)
        # Before the events: they may end what the answers are about.
        self._progress.pass_on()
        return [*events, *(event for reference in done for event in self._outcome(reference))]

    def on_progress(self, listener: Listener) -> None:
        """Have `listener` called with what busy actors answer, once or twice a second."""
        self._progress.listeners.append(listener)

    def owner_of(self, worker: Worker) -> str:
        """Return the name of a started worker in leases: `host:process`."""
        return self._place_of[worker].owner

    def stop_work(self, worker: Worker | None = None) -> None:
        """Note that the stop flag of every actor, or of one, is to be raised; the next `wait` calls the actors.

        Ray is not called here: a signal handler may have interrupted it.
        """
        self._to_stop |= set(self._actors) if worker is None else {worker}

    def _send_stops(self) -> None:
        while self._to_stop:
            actor = self._actors.get(self._to_stop.pop())
            if actor is not None:
                actor.stop.remote()

    def end(self, worker: Worker) -> None:
        """Kill an actor, whatever it does."""
        self._pending = {call: of for call, of in self._pending.items() if of[0] != worker}
        if worker in self._place_of:
            self._place_of[worker].kill()
        self._forget(worker)

    def close(self) -> None:
        """End all actors and, if Ray was started here, Ray; does nothing if the head is gone, and them with it."""
        self._watch.close()
        if not self._ray.is_initialized() or self._watch.is_lost:
            return
        for actor in self._actors.values():
            self._ray.kill(actor)
        self._actors.clear()
        self._ray.shutdown()
        if self._scratch is not None:
            self._scratch.remove()

    def _outcome(self, reference: Any) -> list[Event]:
        worker, task = self._pending.pop(reference)
        try:
            outcome = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return self._loss(worker, task, error)
        if task is None:
            self._place_of[worker] = outcome
            return [Ready(worker)]
        return [Finished(worker, task, outcome)]

    def _loss(self, worker: Worker, task: Task | None, error: Any) -> list[Event]:
        """Forget a worker whose call failed, and idle ones on an unreachable node, which would fail next."""
        errors = self._ray.exceptions
        lost = Lost(
            worker,
            task,
            f"{type(error).__name__}: {gist(error)}",
            out_of_memory=isinstance(error, errors.OutOfMemoryError),
            machine_gone=bool(getattr(error, "preempted", False)),
            unreachable=isinstance(error, errors.RayActorError),
        )
        nodes = set()
        if isinstance(error, errors.ActorUnavailableError) and worker in self._place_of:
            nodes = {self._place_of[worker].node}
        # An unreachable actor may still be writing; it is ended, and fenced by its lease.
        self._forget(worker)
        return [lost, *self._lose_idle(nodes)]

    def _lose_idle(self, nodes: Set[str]) -> list[Event]:
        """Forget the idle workers on unreachable nodes: their next task would be lost with them."""
        busy = {worker for worker, _ in self._pending.values()}
        lost = [one for one, place in self._place_of.items() if place.node in nodes and one not in busy]
        for worker in lost:
            self._forget(worker)
        return [Lost(worker, None, "its node is out of reach") for worker in lost]

    def _forget(self, worker: Worker) -> None:
        # May be called a second time for an actor that is gone already.
        actor = self._actors.pop(worker, None)
        if actor is not None:
            self._ray.kill(actor)
        self._place_of.pop(worker, None)
        self._told_to_leave.discard(worker)

    def _look(self) -> list[Event]:
        """Return the workers on nodes with notice to leave, each once; report it if no node can hold a replica."""
        snapshot = self._watch.latest()
        # A node that has just joined may be newer than the last view.
        gone = self._seen - snapshot.alive
        self._seen |= snapshot.alive
        if not self._attached and self._seen and not snapshot.alive:
            # On a cluster another node may join; here none will.
            raise ExecutorError(
                "the node of the Ray that was started here has died (its raylet is gone)",
                "run the same command to resume from the last checkpoints",
            )
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return []
        self._looked = now
        leaving = [worker for worker, place in self._place_of.items() if place.node in snapshot.leaving]
        new = [worker for worker in leaving if worker not in self._told_to_leave]
        self._told_to_leave.update(new)
        waits = any(task is None for _, task in self._pending.values())
        if waits and now - self._complained > _REPEAT_SECONDS and self._fit("replica") == 0:
            self._complained = now
            _LOGGER.warning("waiting: %s", self._nodes.why_no_replica())
        return [*(Leaving(worker) for worker in new), *self._lose_idle(gone)]

    def _fit(self, role: Role) -> int:
        return self._nodes.fit(role, replicas=sum(worker.role == "replica" for worker in self._actors))
