"""How many workers there are, and when more are started."""

import time
from pathlib import Path

import pytest
from executors import Interfering

from workflows.driver.workers import Workers

TRAJECTORIES = {"moments": 0, "trajectory": 2, "score": 0}


@pytest.mark.parametrize("gone", ["lost", "ended"])
def test_the_place_of_a_worker_that_has_gone_is_filled_at_once(tmp_path: Path, gone: str) -> None:
    executor = Interfering(tmp_path)
    workers = Workers(executor, evaluators=0)
    workers.grow(TRAJECTORIES, editing=True)
    (first,) = executor.started
    workers.ready(first)
    if gone == "lost":
        assert workers.forget(first)
    else:
        workers.end(first)
    workers.grow(TRAJECTORIES, editing=True)
    assert len(executor.started) == 2


def test_one_that_could_not_start_is_not_replaced_in_a_hurry(tmp_path: Path) -> None:
    executor = Interfering(tmp_path)
    workers = Workers(executor, evaluators=0, grow_seconds=600.0)
    workers.grow(TRAJECTORIES, editing=True)
    assert not workers.forget(executor.started[0])
    workers.grow(TRAJECTORIES, editing=True)
    assert len(executor.started) == 1


@pytest.mark.parametrize(("idle_seconds", "ended"), [(-1.0, True), (600.0, False)])
def test_a_replica_without_work_is_ended_after_a_while(tmp_path: Path, idle_seconds: float, ended: bool) -> None:
    executor = Interfering(tmp_path)
    workers = Workers(executor, evaluators=0, grow_seconds=0.0, idle_seconds=idle_seconds)
    workers.grow(TRAJECTORIES, editing=True)
    workers.ready(executor.started[0])
    workers.grow({**TRAJECTORIES, "trajectory": 0}, editing=True)
    assert (workers.idle == []) is ended


def test_an_executor_without_a_task_sleeps(tmp_path: Path) -> None:
    executor, began, worked = Interfering(tmp_path), time.monotonic(), time.thread_time()
    assert executor.wait(0.3) == []
    assert time.monotonic() - began >= 0.3
    assert time.thread_time() - worked < 0.15
