"""A model replica: one process, one model, one task at a time. Independent of Ray."""

import math
import os
import socket
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

import torch
from transformers.utils import logging as transformers_logging

from evaluators.base import Evaluator
from evaluators.registry import build_evaluator, read_evaluator_settings
from sphere_core.checkpoint_files import delete_checkpoint
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.fingerprint import canonical_json
from sphere_core.foundation.process_faults import free_memory, is_broken_accelerator, is_out_of_memory
from sphere_core.foundation.storage import Storage
from sphere_core.foundation.storage_faults import StorageError
from sphere_core.foundation.work_progress import WorkProgress
from sphere_core.models.devices import pick_device
from sphere_core.moments.files import write_moments
from sphere_core.moments.packing import Cursor
from sphere_core.moments.record import SecondMoments
from sphere_core.numerics.placement import device_name
from sphere_core.requests import EditRequest, generation_digest, requests_digest
from sphere_core.streams.stream import load_stream
from sphere_core.trajectory_spec import TrajectorySpec
from workflows.moments.build import build_shard
from workflows.moments.reuse import take_or_build
from workflows.moments.work import recipe_work
from workflows.replicas.editing import TrajectoryRun, moments_for, moments_of
from workflows.replicas.keepalive import noted
from workflows.replicas.loaded_model import ReplicaModel
from workflows.replicas.plugins import planned_plugins
from workflows.replicas.scoring import DamagedCheckpointError, places_to_open, score_subject
from workflows.replicas.tasks import (
    BrokenReplicaError,
    Damaged,
    Done,
    Failed,
    MomentsShardTask,
    MomentsTask,
    Outcome,
    OutOfMemory,
    ReplicaProgress,
    ScoreTask,
    Stopped,
    StorageFailed,
    Superseded,
    Task,
    TrajectoryTask,
)
from workflows.store.build_lock import building
from workflows.store.layout import checkpoints_folder, moments_lock, moments_path
from workflows.store.lease import LeaseLostError, later_attempt, take_lease
from workflows.store.plan import BasePlan, TrajectoryPlan
from workflows.store.records import Lease

__all__ = ["ModelReplica"]

_STREAMS_KEPT = 4
_SIGN_SECONDS = 0.5


class ModelReplica:
    """Builds second moments, runs trajectories and scores subjects; reads from storage and writes to it.

    `run` may be called by one thread at a time; `progress` and `stop` may be called from another while it runs.
    """

    def __init__(
        self,
        root: str,
        *,
        threads: int,
        device: str,
        listener: Callable[[ReplicaProgress], None] | None = None,
        on_sign: Callable[[ReplicaProgress], None] | None = None,
    ) -> None:
        """`listener` receives each step of a task, `on_sign` (twice per second at most) how far a step under way is."""
        torch.set_num_threads(threads)
        transformers_logging.disable_progress_bar()
        self._threads = threads
        self._storage = Storage(root)
        # The replica's name in leases.
        self.owner = f"{socket.gethostname()}:{os.getpid()}"
        self._listener = listener
        self._progress = ReplicaProgress()
        self._work = WorkProgress()
        self._on_sign = on_sign
        self._said = -math.inf
        self._work.listen(None if on_sign is None else self._pass_on)
        self._model = ReplicaModel(pick_device(device), self._work)
        self._stopping = threading.Event()
        self._streams: OrderedDict[tuple[str, str | None], tuple[EditRequest, ...]] = OrderedDict()
        self._evaluators: dict[str, Evaluator] = {}
        self._scoring_moments: tuple[str, SecondMoments] | None = None

    def progress(self) -> ReplicaProgress:
        """Return what the replica is doing now."""
        return replace(self._progress, within=self._work.position, signs=self._work.signs)

    def stop(self) -> None:
        """Make the running trajectory publish a checkpoint after the current batch and return; does nothing for other
        tasks."""
        self._stopping.set()

    def run(self, task: Task) -> Outcome:
        """Do one task. An error of the task is written to its error file and returned as an outcome; the replica stays
        usable.

        A task that is done already is not repeated. A lost lease, damaged checkpoint, lack of memory or failing storage
        is an outcome of its own and writes no error file. Raises BrokenReplicaError, with nothing written, if the
        process itself has failed.
        """
        self._work.clear()
        self._report(ReplicaProgress.at(task))
        try:
            return self._do(task)
        except LeaseLostError as lost:
            return Superseded(str(lost))
        except DamagedCheckpointError as damage:
            return self._remove_damaged(task, damage)
        except StorageError as fault:
            return StorageFailed(str(fault))
        except Exception as error:  # a trajectory's crash becomes a failure, the sweep continues
            if is_broken_accelerator(error):
                raise BrokenReplicaError(f"{task.name}: {type(error).__name__}: {error}") from error
            if is_out_of_memory(error):
                exhausted = OutOfMemory(f"{type(error).__name__}: {error}")
            else:
                return self._fail(task, error)
        finally:
            self._work.clear()
            self._report(ReplicaProgress())
        # Only now are the error, and the tensors that its frames referred to, released.
        self._model.forget()
        free_memory()
        return exhausted

    def _fail(self, task: Task, error: Exception) -> Outcome:
        edits = (self._progress.edits or None) if isinstance(task, TrajectoryTask) else None
        failed = Failed(type(error).__name__, str(error), traceback.format_exc(), edits)
        try:
            # What a later attempt does to the files may be the very reason of the error.
            if isinstance(task, TrajectoryTask) and (by := later_attempt(self._storage, task.plan.id, task.attempt)):
                return Superseded(by)
            failed.record(task).write(self._storage, task.error_path)
        except StorageError as fault:
            return StorageFailed(str(fault))
        return failed

    def _do(self, task: Task) -> Outcome:
        match task:
            case MomentsTask():
                return self._build_moments(task)
            case MomentsShardTask():
                return self._build_shard(task)
            case TrajectoryTask():
                return self._edit(task)
            case ScoreTask():
                return self._score(task)

    def _edit(self, task: TrajectoryTask) -> Done | Stopped:
        if task.spec.threads != self._threads:
            raise RuntimeError(f"a replica of {self._threads} threads cannot run a trajectory of {task.spec.threads}")
        lease = Lease(attempt=task.attempt, owner=self.owner)
        take_lease(self._storage, task.plan.id, lease)
        requests = self._requests(task.spec)
        moments = None
        if task.plan.parent is None:
            moments = moments_for(
                task, self._storage, device=self._model.device, on_wait=self._waits, on_layer=self._work.report
            )
        run = TrajectoryRun(task, lease, self._storage, self._report, self._stopping.is_set, self._work)
        with self._model.lent(task.spec, task.spec.hyperparameters.places) as model:
            return run.run(model, requests, moments)

    def _score(self, task: ScoreTask) -> Done:
        asks = not isinstance(task.subject, BasePlan) or task.subject.stream_digest is not None
        requests = self._requests(task.spec) if asks else ()
        evaluator = self._evaluator(task)
        moments = self._moments(task) if evaluator.reads_moments else None
        with self._model.lent(task.spec, places_to_open(task)) as model:
            score_subject(task, model, requests, evaluator, self._storage, moments)
        return Done()

    def _moments(self, task: ScoreTask) -> SecondMoments | None:
        """Return the second moments for scoring a checkpoint; the last ones are kept, because they can be gigabytes."""
        if isinstance(task.subject, BasePlan):
            return None
        key = task.moments_file or task.subject.moments
        if key is None:
            return None
        if self._scoring_moments is None or self._scoring_moments[0] != key:
            self._scoring_moments = None
            moments = moments_of(task.subject, task.moments_file, self._storage)
            self._scoring_moments = (key, moments) if moments is not None else None
        return self._scoring_moments[1] if self._scoring_moments is not None else None

    def _remove_damaged(self, task: Task, damage: DamagedCheckpointError) -> Outcome:
        """Remove a checkpoint that cannot be scored, so that its trajectory makes it again."""
        if isinstance(task, ScoreTask) and isinstance(task.subject, TrajectoryPlan):
            try:
                delete_checkpoint(self._storage.child(checkpoints_folder(task.subject.id)), task.edits)
            except StorageError as fault:
                return StorageFailed(str(fault))
        return Damaged(str(damage))

    def _build_moments(self, task: MomentsTask) -> Done:
        """Build the moments that a sweep waits for, unless another replica has; wait for one that is building them."""
        work = recipe_work(task.recipe, task.spec, device=device_name(self._model.device))
        path, lock = moments_path(task.recipe.key), moments_lock(task.recipe.key)

        unit = "texts" if task.recipe.tokens is None else "tokens"
        whole = task.recipe.tokens or task.recipe.sentences or 0

        def report(done: Cursor) -> None:
            shown = done.texts if unit == "texts" else done.tokens
            self._work.report("second moments", shown, whole, unit)
            self._report(ReplicaProgress.at(task, shown, whole))

        def publish(moments: SecondMoments) -> None:
            self._storage.write_file(path, lambda scratch: write_moments(moments, scratch))

        with building(self._storage, lock, lambda: self._storage.exists(path), on_wait=self._waits) as mine:
            if mine:
                with noted(task.name, task.title, self._work, self._storage):
                    take_or_build(work, self._model.lent(task.spec, task.recipe.layers), self._storage, publish, report)
        return Done()

    def _waits(self, holder: str) -> None:
        self._report(replace(self._progress, waits_for=f"second moments that {holder} builds"))

    def _build_shard(self, task: MomentsShardTask) -> Done:
        def report(done: Cursor) -> None:
            self._work.sign()
            self._report(ReplicaProgress.at(task, done.tokens, task.work.work.amount.tokens or 0))

        with self._model.lent(task.work.model, task.work.work.layers) as model:
            build_shard(task.work, task.shard, task.shards, model, self._storage, report)
        return Done()

    def _requests(self, spec: TrajectorySpec) -> tuple[EditRequest, ...]:
        """Return a trajectory's stream, checked against its digest; a few streams are kept."""
        planned = (spec.stream_digest, spec.generation_digest)
        if planned not in self._streams:
            # The plan's record of the file is for people; what must be equal is the requests.
            code = [plugin for row, plugin in spec.plugins.items() if row == f"dataset/{spec.stream.dataset}"]
            stream = spec.stream.model_copy(update={"sha256": None})
            requests = load_stream(stream, spec.seed, planned_plugins(code, self._storage))
            if (requests_digest(requests), generation_digest(requests)) != planned:
                raise InputError(
                    "the data set is not the one the sweep was planned with",
                    where=spec.stream.source,
                    remedy="restore it, or plan again: another stream is another trajectory",
                )
            self._streams[planned] = requests
            if len(self._streams) > _STREAMS_KEPT:
                self._streams.popitem(last=False)
        return self._streams[planned]

    def _evaluator(self, task: ScoreTask) -> Evaluator:
        code = () if task.plugin is None else (task.plugin,)
        key = canonical_json({"settings": dict(task.settings), "code": [plugin.digest for plugin in code]})
        if key not in self._evaluators:
            plugins = planned_plugins(code, self._storage)
            where = f"evaluator '{task.evaluation.kind}'"
            settings = read_evaluator_settings(task.settings, where=where, plugins=plugins)
            self._evaluators[key] = build_evaluator(settings)
        return self._evaluators[key]

    def _pass_on(self) -> None:
        now = time.monotonic()
        if self._on_sign is not None and self._work.position is not None and now - self._said >= _SIGN_SECONDS:
            self._said = now
            self._on_sign(self.progress())

    def _report(self, progress: ReplicaProgress) -> None:
        self._progress = progress
        if self._listener is not None:
            self._listener(progress)
