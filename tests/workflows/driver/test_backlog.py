"""The backlog's queue and its running totals, against plain references."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
from store_parts import put_checkpoint
from sweep_files import tiny, write_sweep

from benchmarks.many_trajectories import many_settings, measure
from sphere_core.foundation.storage import Storage
from workflows.driver.backlog import Backlog
from workflows.driver.tracking import Counts
from workflows.driver.work_queue import WorkQueue
from workflows.replicas.tasks import MomentsTask, ScoreTask, TrajectoryTask
from workflows.store.state import scorable
from workflows.sweeps.expand import Sweep, load_sweep


def test_the_queue_gives_what_a_search_through_a_list_would() -> None:
    choice = random.Random(0)
    queue: WorkQueue[int] = WorkQueue()
    line: list[tuple[str, int]] = []
    for item in range(400):
        group = choice.choice("abc")
        if choice.random() < 0.2:
            queue.put_first(item, group)
            line.insert(0, (group, item))
        else:
            queue.put(item, group)
            line.append((group, item))
        if choice.random() < 0.6:
            wanted = choice.choice("abcd")
            expected = next((entry for entry in line if entry[0] == wanted), line[0])
            line.remove(expected)
            assert queue.take(wanted) == expected[1]
        assert len(queue) == len(line)
    while line:
        assert queue.take(None) == line.pop(0)[1]
    assert queue.take(None) is None


def test_a_place_in_line_is_kept_whenever_it_is_put() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for place in (5, 1, 3):
        queue.put(f"place {place}", "m", place)
    assert [queue.take("m") for _ in range(3)] == ["place 1", "place 3", "place 5"]


def counted_anew(backlog: Backlog) -> Counts:
    """The totals, counted from all trajectories as if nothing had been kept."""
    totals = Counts(len(backlog.tracked), scores=len(backlog.plan.bases), scores_done=backlog.totals.scores_done)
    totals.failures = backlog.totals.failures
    for tracked in backlog.tracked.values():
        plan = tracked.plan
        edited = tracked.collapsed_at is not None or set(plan.wanted) <= tracked.published
        totals.trajectories_done += edited
        totals.edits += plan.edits
        totals.edits_done += plan.edits if edited else max([tracked.running_edits, *tracked.published, 0])
        shortened = tracked.failed or tracked.collapsed_at is not None
        checkpoints = scorable(plan, tracked.published, tracked.collapsed_at) if shortened else set(plan.wanted)
        totals.scores += len(checkpoints) * len(plan.evaluations)
    return totals


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    settings = tiny(methods=["memit", "memit+sphere", "memit+rect"], seeds=[0, 1, 2])
    return load_sweep(write_sweep(tmp_path_factory.mktemp("spec"), settings))


@pytest.mark.parametrize("seed", range(3))
def test_totals_follow_whatever_happens(sweep: Sweep, tmp_path: Path, seed: int) -> None:
    choice = random.Random(seed)
    backlog = Backlog.from_files(sweep, Storage(tmp_path))
    under_way: list[MomentsTask | TrajectoryTask | ScoreTask] = []
    for _ in range(400):
        task = backlog.take(["moments", "score", "trajectory"], None) if choice.random() < 0.6 else None
        if task is not None:
            under_way.append(task)
        elif under_way:
            ended = under_way.pop(choice.randrange(len(under_way)))
            if choice.random() < 0.3:
                backlog.put_back(ended)
            elif isinstance(ended, MomentsTask):
                backlog.moments_done(ended)
            elif isinstance(ended, ScoreTask) and ended.edits and choice.random() < 0.2:
                backlog.damaged(ended)
            elif isinstance(ended, ScoreTask):
                backlog.scored(ended)
            else:
                backlog.running(ended.plan.id, 2)
                assert backlog.counts() == counted_anew(backlog)
                collapsed = choice.random() < 0.2
                backlog.published(ended.plan.id, [4] if collapsed else [4, 6], collapsed=collapsed)
                backlog.ended(ended.plan.id, failed=choice.random() < 0.1)
        assert backlog.counts() == counted_anew(backlog)
        assert backlog.running_now == sum(isinstance(task, TrajectoryTask) for task in under_way)
    assert backlog.counts().trajectories_done > 0


def running(backlog: Backlog) -> TrajectoryTask:
    """Take the first trajectory, its second moments being there."""
    while isinstance(task := backlog.take(["moments"], None), MomentsTask):
        backlog.moments_done(task)
    first = backlog.take(["trajectory"], None)
    assert isinstance(first, TrajectoryTask)
    return first


def test_a_checkpoint_found_damaged_while_its_trajectory_runs_is_made_again(sweep: Sweep, tmp_path: Path) -> None:
    backlog = Backlog.from_files(sweep, Storage(tmp_path))
    first = running(backlog)
    assert backlog.published(first.plan.id, [4])
    score = next(task for task in iter(lambda: backlog.take(["score"], None), None) if task.trajectory_id)
    backlog.damaged(score)
    # Its replica does not know, and goes on to say that all stands.
    assert not backlog.published(first.plan.id, [4])
    backlog.published(first.plan.id, [4, 6])
    backlog.ended(first.plan.id, failed=False)
    assert not backlog.tracked[first.plan.id].is_edited
    again = backlog.take(["trajectory"], None)
    assert isinstance(again, TrajectoryTask)
    assert again.plan.id == first.plan.id
    assert backlog.published(first.plan.id, [4])
    backlog.ended(first.plan.id, failed=False)
    assert backlog.tracked[first.plan.id].is_edited


def test_no_attempt_is_given_out_twice(sweep: Sweep, tmp_path: Path) -> None:
    backlog = Backlog.from_files(sweep, Storage(tmp_path))
    first = running(backlog)
    # Lost before it took its lease, which it may still do.
    backlog.put_back(first)
    second = backlog.take(["trajectory"], None)
    assert isinstance(second, TrajectoryTask)
    assert (second.plan.id, first.attempt, second.attempt) == (first.plan.id, 1, 2)


def test_trajectories_whose_moments_cannot_be_built_are_given_up(sweep: Sweep, tmp_path: Path) -> None:
    backlog = Backlog.from_files(sweep, Storage(tmp_path))
    task = backlog.take(["moments"], None)
    assert isinstance(task, MomentsTask)
    assert backlog.waiting()["trajectory"] == 0
    assert backlog.has_open_trajectories()
    backlog.task_failed(task)
    assert not backlog.has_open_trajectories()
    assert backlog.counts().failures == 1 + len(sweep.plan.trajectories)


def test_the_benchmark_of_many_trajectories_runs_on_a_few(tmp_path: Path) -> None:
    assert len(many_settings(70)["seeds"]) == 2
    rows = measure(35, tmp_path, commands=False)
    assert {row.what for row in rows if row.required is not None} == {
        "backlog from files",
        "handing out every open task, counting after each",
    }


def test_second_moments_that_are_gone_are_built_again_for_a_damaged_checkpoint(sweep: Sweep, tmp_path: Path) -> None:
    backlog = Backlog.from_files(sweep, Storage(tmp_path))
    first = running(backlog)
    backlog.published(first.plan.id, [4, 6])
    backlog.ended(first.plan.id, failed=False)
    for edits in (4, 6):
        put_checkpoint(Storage(tmp_path), first.plan, edits)
    # Another driver, below a root whose second moments somebody has removed: all is edited but for the damage.
    one = replace(sweep, plan=sweep.plan.model_copy(update={"trajectories": (first.plan,)}))
    later = Backlog.from_files(one, Storage(tmp_path))
    assert later.waiting()["moments"] == 0
    score = next(task for task in iter(lambda: later.take(["score"], None), None) if task.trajectory_id)
    later.damaged(score)
    task = later.take(["moments"], None)
    assert isinstance(task, MomentsTask)
    assert later.waiting()["trajectory"] == 0
    later.moments_done(task)
    assert later.waiting()["trajectory"] == 1
