"""Shards of second moments on workers that fail: the rules are those of a sweep."""

from collections.abc import Callable

import pytest

from sphere_core.foundation.storage_faults import StorageError
from sphere_core.moments.packing import Amount, Packing, Pass
from workflows.driver.executor import Event, ExecutorError, Finished, Leaving, Listener, Lost, Ready, Role, Worker
from workflows.driver.retry_limits import MAX_EXHAUSTED, MAX_FAILED_STARTS, MAX_LOSSES, MAX_LOSSES_UNBEGUN
from workflows.moments.work import ModelName, MomentsWork
from workflows.replicas.tasks import Done, Failed, Outcome, OutOfMemory, ReplicaProgress, StorageFailed, Task
from workflows.runs.moments_shards import run_shards
from workflows.store.corpus import Corpus

WORK = MomentsWork(
    "k",
    ModelName("m", "d" * 64, "float32", None, False),
    Corpus(kind="factworld"),
    Pass((1,), Packing(8), Amount(tokens=64)),
    60.0,
)
Fate = Callable[["Scripted", Worker, Task], list[Event]]


class Scripted:
    """One worker at a time. `starts` say of each new worker whether it gets ready; `fates` what becomes of each task.

    Where a script ends, workers start and tasks are done.
    """

    def __init__(self, starts: list[bool], fates: list[Fate]) -> None:
        self._starts = starts
        self._fates = fates
        self._events: list[Event] = []
        self._listeners: list[Listener] = []
        self.started: list[Worker] = []
        self.ended: list[Worker] = []
        self.given: list[tuple[int, str]] = []

    def most(self, role: Role) -> int:
        return 1 if role == "replica" else 0

    def start(self, role: Role) -> Worker:
        worker = Worker(len(self.started) + 1, role)
        self.started.append(worker)
        is_ready = self._starts.pop(0) if self._starts else True
        self._events.append(Ready(worker) if is_ready else Lost(worker, None, "ImportError: no such module"))
        return worker

    def assign(self, worker: Worker, task: Task) -> None:
        self.given.append((worker.number, task.name))
        fate = self._fates.pop(0) if self._fates else ends(Done())
        self._events += fate(self, worker, task)

    def wait(self, seconds: float) -> list[Event]:
        events, self._events = self._events, []
        return events

    def on_progress(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def say(self, worker: Worker, progress: ReplicaProgress) -> None:
        for listener in self._listeners:
            listener(worker, progress)

    def stop_work(self, worker: Worker | None = None) -> None:
        raise AssertionError("a shard cannot be stopped half-way")

    def end(self, worker: Worker) -> None:
        self.ended.append(worker)

    def close(self) -> None:
        pass


def ends(outcome: Outcome) -> Fate:
    return lambda executor, worker, task: [Finished(worker, task, outcome)]


def lost(*, begun: bool = True, machine_gone: bool = False, out_of_memory: bool = False) -> Fate:
    """The worker goes without a word of its own, after it has said that it is at its task if it has begun."""

    def fate(executor: Scripted, worker: Worker, task: Task) -> list[Event]:
        if begun:
            executor.say(worker, ReplicaProgress.at(task, 8, 64))
        return [
            Lost(worker, task, "gone", unreachable=True, machine_gone=machine_gone, out_of_memory=out_of_memory),
        ]

    return fate


def noticed(executor: Scripted, worker: Worker, task: Task) -> list[Event]:
    """Its machine is about to go, and the shard is just finished."""
    return [Leaving(worker), Leaving(worker), Finished(worker, task, Done())]


def build(executor: Scripted, shards: int = 4) -> list[int]:
    done: list[int] = []
    run_shards(executor, WORK, shards, on_progress=done.append)
    assert {name for _, name in executor.given} == {f"moments-k-shard-{shard}" for shard in range(shards)}
    return done


def test_replicas_that_fail_to_start_now_and_then_do_not_end_a_build() -> None:
    often = MAX_FAILED_STARTS + 1
    executor = Scripted([False, True] * often, [ends(Done()), *[lost(machine_gone=True)] * MAX_FAILED_STARTS])
    build(executor)
    assert len(executor.started) == 2 * often


def test_replicas_that_fail_to_start_in_a_row_do() -> None:
    build(Scripted([False] * (MAX_FAILED_STARTS - 1), []))
    with pytest.raises(ExecutorError, match=rf"{MAX_FAILED_STARTS} workers in a row could not start.*no such module"):
        build(Scripted([False] * MAX_FAILED_STARTS, []))


def test_a_worker_whose_machine_is_about_to_go_gets_no_further_shard() -> None:
    executor = Scripted([], [noticed])
    build(executor)
    assert [number for number, _ in executor.given] == [1, 2, 2, 2]
    assert executor.ended[0].number == 1


def test_machines_that_die_before_a_shard_has_begun_there_do_not_count_against_it() -> None:
    executor = Scripted([], [lost(begun=False)] * (MAX_LOSSES + 2))
    build(executor)
    # The shard that was lost is the next one that is given out.
    assert [name for _, name in executor.given[: MAX_LOSSES + 3]] == ["moments-k-shard-0"] * (MAX_LOSSES + 3)
    with pytest.raises(RuntimeError, match=f"lost {MAX_LOSSES_UNBEGUN} times"):
        build(Scripted([], [lost(begun=False)] * MAX_LOSSES_UNBEGUN))


def test_a_shard_that_keeps_losing_its_worker_ends_the_build() -> None:
    build(Scripted([], [lost()] * (MAX_LOSSES - 1)))
    with pytest.raises(RuntimeError, match=rf"moments-k-shard-0: WorkerLost: .*lost {MAX_LOSSES} times.*gone"):
        build(Scripted([], [lost()] * MAX_LOSSES))


def test_machines_that_are_taken_away_never_count() -> None:
    build(Scripted([], [lost(machine_gone=True)] * (MAX_LOSSES_UNBEGUN + 1)))


@pytest.mark.parametrize("fate", [ends(OutOfMemory("9 GiB")), lost(out_of_memory=True)], ids=["said", "killed"])
def test_memory_that_runs_out_once_is_tried_again_in_a_new_process(fate: Fate) -> None:
    executor = Scripted([], [fate] * (MAX_EXHAUSTED - 1))
    build(executor)
    assert executor.given[0][0] != executor.given[1][0]
    with pytest.raises(RuntimeError, match=f"ran out of memory {MAX_EXHAUSTED} times"):
        build(Scripted([], [fate] * MAX_EXHAUSTED))


def test_a_shard_that_fails_and_a_storage_that_is_full_end_the_build() -> None:
    with pytest.raises(RuntimeError, match=r"shard-0: InputError: why\nTraceback"):
        build(Scripted([], [ends(Failed("InputError", "why", "Traceback\n"))]))
    with pytest.raises(StorageError, match="full"):
        build(Scripted([], [ends(StorageFailed("full"))]))


def test_progress_is_the_mean_over_shards() -> None:
    def half(executor: Scripted, worker: Worker, task: Task) -> list[Event]:
        executor.say(worker, ReplicaProgress.at(task, 32, 64))
        executor.say(Worker(99, "replica"), ReplicaProgress.at(task, 64, 64))
        return [Finished(worker, task, Done())]

    assert build(Scripted([], [half, half])) == [8, 16]
