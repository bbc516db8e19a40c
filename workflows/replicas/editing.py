"""Run one trajectory: resume, edit, publish the wanted checkpoints, report progress."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from sphere_core.checkpoint_files import checkpoints_in, delete_checkpoint
from sphere_core.checkpoints import Checkpoint, latest_checkpoint, on_host, write_checkpoint
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from sphere_core.foundation.work_progress import WorkProgress
from sphere_core.methods import resolve_method
from sphere_core.models import EditableModel
from sphere_core.moments.files import read_moments
from sphere_core.moments.record import SecondMoments
from sphere_core.requests import EditRequest
from workflows.moments.null_spaces import with_null_spaces
from workflows.replicas.edits import editing_chain
from workflows.replicas.keepalive import KeepAlive
from workflows.replicas.key_files import KeyKeeper
from workflows.replicas.lap_clock import LapClock
from workflows.replicas.plugins import planned_plugins
from workflows.replicas.publisher import Publisher
from workflows.replicas.tasks import Done, ReplicaProgress, Stopped, TrajectoryTask
from workflows.replicas.tuning import tuning_chain
from workflows.store.layout import (
    EDIT_WORK,
    TUNE_WORK,
    attempt_path,
    checkpoints_folder,
    moments_path,
    progress_path,
    scored_name,
    timing_path,
)
from workflows.store.lease import require_lease
from workflows.store.plan import TrajectoryPlan
from workflows.store.records import AttemptRecord, Lease, Progress, ProgressState

__all__ = ["TrajectoryRun", "moments_for", "moments_of", "resume_point"]


def moments_for(
    task: TrajectoryTask,
    storage: Storage,
    *,
    device: torch.device,
    on_wait: Callable[[str], None] = lambda _: None,
    on_layer: Callable[[str, int, int, str], None] = lambda stage, done, of, unit: None,
) -> SecondMoments | None:
    """Return the second moments that a trajectory uses, imported or built; None if its method uses none.

    For a method that edits inside their null space they include it: computed once, shared by all trajectories.
    `on_wait` receives the name of another process that computes it meanwhile, `on_layer` how far it is. Raises
    InputError for a damaged file.
    """
    method = resolve_method(task.spec.method, plugins=planned_plugins(task.spec.plugins.values(), storage))
    if not method.needs_moments(task.spec.hyperparameters):
        return None
    moments = moments_of(task.plan, task.moments_file, storage)
    if moments is None or not method.editor_row.uses_null_space:
        return moments
    return with_null_spaces(
        moments,
        task.spec,
        storage,
        recipe=task.plan.moments,
        where=f"trajectory {task.plan.id}",
        on_wait=on_wait,
        device=device,
        on_layer=on_layer,
    )


def moments_of(plan: TrajectoryPlan, file: str | None, storage: Storage) -> SecondMoments | None:
    """Read the second moments that a sweep has for a trajectory, imported or built; None if it has none.

    Raises InputError if they are damaged or missing.
    """
    if file is not None:
        return read_moments(Path(file))
    if plan.moments is None:
        return None
    path = moments_path(plan.moments)
    if not storage.exists(path):
        remedy = "put the file back, or score in a new root: they are built before trajectories start"
        raise InputError("second moments are gone", where=f"{storage.uri}/{path}", remedy=remedy)
    with storage.as_file(path) as local:
        return read_moments(local)


def resume_point(checkpoints: Storage, wanted: Sequence[int]) -> Checkpoint | None:
    """Return the newest intact checkpoint before the first missing wanted one; None: start at edit 0.

    Checkpoints beyond a missing one are not resume points, because the missing one would then never be made. A damaged
    checkpoint is skipped in favour of the previous one.
    """
    published = checkpoints_in(checkpoints)
    first_missing = min((edits for edits in wanted if edits not in published), default=None)
    return latest_checkpoint(checkpoints, at_most=first_missing)


@dataclass
class TrajectoryRun:
    """One attempt at a trajectory, on a model that is lent to it."""

    task: TrajectoryTask
    lease: Lease
    storage: Storage
    report: Callable[[ReplicaProgress], None]
    should_stop: Callable[[], bool]
    work: WorkProgress = field(default_factory=WorkProgress)
    _said: Progress | None = None
    # The last count of signs, and when it was new.
    _signs: tuple[int, float] = (-1, 0.0)

    def run(
        self, model: EditableModel, requests: Sequence[EditRequest], moments: SecondMoments | None
    ) -> Done | Stopped:
        """Edit, or fine-tune, from the resume point to the end; a second call on a finished trajectory changes nothing.

        Reads checkpoints and moments. Writes the attempt's record first; then after each batch `progress.json`, at most
        once per second; at each wanted edit count, after a stop request or a collapse: the keys of the edits, the
        checkpoint, its timing, and only then removes the checkpoints of earlier stops. A thread writes these, in order,
        while later batches are edited; what is written is reported, and all is when this returns or raises. Every
        publication is preceded by a check of the lease. Raises LeaseLostError if a later attempt has taken over,
        InputError for moments that do not fit, StorageError if storage fails.
        """
        plan = self.task.plan
        checkpoints = self.storage.child(checkpoints_folder(plan.id))
        resume = resume_point(checkpoints, plan.wanted)
        first = resume.position if resume is not None else 0
        keeper = None
        if plan.keep_keys:
            places = self.task.spec.hyperparameters.places
            keeper = KeyKeeper(self.storage, plan.id, plan.wanted, places, first)
        if plan.parent is None:
            chain = editing_chain(self.task, self.storage, model, requests, moments, resume=resume, keeper=keeper)
        else:
            chain = tuning_chain(self.task, self.storage, model, requests, resume)
        standing = checkpoints_in(checkpoints)
        # `published` are written, the others of `handed` are being written.
        published = {position for position in standing if position in plan.wanted}
        handed = set(published)
        collapsed = resume is not None and resume.collapsed
        clock = LapClock(first, model.clock)
        self._note_attempt(first, max(standing, default=0))
        self._say(first, clock, sorted(published))
        stopped_at, stopping = None, False
        # A batch on a large model may take longer than the time after which a silent replica counts as dead.
        with KeepAlive(self._say_again), Publisher() as publisher:
            for checkpoint in chain:
                collapsed, stopping = checkpoint.collapsed, self.should_stop()
                position = checkpoint.position
                if position in plan.wanted or collapsed or stopping:
                    self._hand_over(publisher, checkpoint, checkpoints, clock, keeper, published)
                    handed.add(position)
                self.work.clear()
                self._say(position, clock, sorted(published))
                pausing = self.task.pauses and position in plan.wanted
                if (stopping or pausing) and not collapsed and position < plan.length:
                    stopped_at = position
                if stopped_at is not None or set(plan.wanted) <= handed:
                    break
        if stopped_at is not None:
            self._write_progress(stopped_at, clock, "stopped")
            return Stopped(tuple(sorted(published)), paused=not stopping)
        self._write_progress(max(published, default=0), clock, "collapsed" if collapsed else "edited")
        return Done(tuple(sorted(published)), collapsed)

    def _hand_over(
        self,
        publisher: Publisher,
        checkpoint: Checkpoint,
        checkpoints: Storage,
        clock: LapClock,
        keeper: KeyKeeper | None,
        published: set[int],
    ) -> None:
        """Have a checkpoint written while the next batch is edited: lease, keys, checkpoint, timing, earlier stops."""
        position = checkpoint.position
        with clock.stages.stage("checkpoint"):
            keys = None if keeper is None else keeper.packed(position)
            copied, arrived = on_host(checkpoint)

        def publish() -> None:
            begin = time.monotonic()
            arrived()
            self._require_lease()
            if keeper is not None and keys is not None:
                keeper.publish(position, keys)
            # A process that was stopped meanwhile may find that its trajectory has been given to another.
            write_checkpoint(copied, checkpoints, guard=self._require_lease)
            beside = {"checkpoint": round(time.monotonic() - begin, 6)}
            timing = lap.model_copy(update={"beside": beside})
            timing.write(self.storage, timing_path(self._work, scored_name(self.task.plan.id, position)))
            self._drop_stops(position, checkpoints)
            if keeper is not None:
                keeper.drop_stops(position)
            published.add(position)

        lap = clock.lap(position, self.lease.attempt)
        with clock.stages.stage("checkpoint"):
            publisher.submit(publish, copied.size)

    @property
    def _work(self) -> str:
        """What its seconds are counted as."""
        return EDIT_WORK if self.task.plan.parent is None else TUNE_WORK

    def _drop_stops(self, position: int, checkpoints: Storage) -> None:
        """Remove earlier checkpoints that were published only because of a stop."""
        for earlier in checkpoints_in(checkpoints):
            if earlier < position and earlier not in self.task.plan.wanted:
                delete_checkpoint(checkpoints, earlier)

    def _say(self, edits: int, clock: LapClock, published: Sequence[int]) -> None:
        plan = self.task.plan
        self.report(ReplicaProgress.at(self.task, edits, plan.length, tuple(published)))
        if clock.due():
            self._write_progress(edits, clock, "running")

    def _note_attempt(self, first: int, standing: int) -> None:
        """Record where this attempt begins, the newest checkpoint then, and the progress that the previous attempt
        reported; of one that continues after a pause the record stays."""
        path = attempt_path(self.task.plan.id, self.lease.attempt)
        known = AttemptRecord.read(self.storage, path) if self.task.pauses else None
        if known is not None and known.owner == self.lease.owner:
            return
        progress = Progress.read(self.storage, progress_path(self.task.plan.id))
        record = AttemptRecord(
            first=first,
            standing=standing,
            before=first if progress is None else max(progress.edits, first),
            owner=self.lease.owner,
            at=time.time(),
        )
        record.write(self.storage, path)

    def _require_lease(self) -> None:
        require_lease(self.storage, self.task.plan.id, self.lease)

    def _write_progress(self, edits: int, clock: LapClock, state: ProgressState) -> None:
        # A superseded attempt notices here, long before its next checkpoint.
        self._require_lease()
        self._said = Progress(
            state=state,
            edits=edits,
            of=self.task.plan.length,
            edits_per_second=round(clock.rate(edits), 3),
            attempt=self.lease.attempt,
            owner=self.lease.owner,
        )
        self._put_progress(self._said)

    def _say_again(self) -> None:
        if self._said is not None:
            self._require_lease()
            self._put_progress(self._said)

    def _put_progress(self, record: Progress) -> None:
        now, signs = time.time(), self.work.signs
        if signs != self._signs[0]:
            self._signs = signs, now
        dated = record.model_copy(update={"at": now, "within": self.work.position, "moved": self._signs[1]})
        dated.write(self.storage, progress_path(self.task.plan.id))
