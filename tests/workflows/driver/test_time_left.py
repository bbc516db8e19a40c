"""The time left: what work has taken so far, without what loading a model took."""

import pytest
from store_parts import QUALITY, trajectory

from workflows.driver.executor import Worker
from workflows.driver.time_left import TimeLeft
from workflows.driver.tracking import Counts
from workflows.replicas.tasks import ReplicaProgress, ScoreTask, TrajectoryTask
from workflows.sweeps.expand import Sweep

ONE, TWO = Worker(1, "replica"), Worker(2, "evaluator")


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("workflows.driver.time_left.time.monotonic", clock)
    return clock


@pytest.fixture
def editing(sweep: Sweep) -> TrajectoryTask:
    return TrajectoryTask(trajectory("memit", 0), next(iter(sweep.specs.values())), 1, None)


@pytest.fixture
def scoring(sweep: Sweep) -> ScoreTask:
    return ScoreTask(trajectory("memit", 0), next(iter(sweep.specs.values())), 4, QUALITY, {})


def test_loading_a_model_is_no_part_of_the_rate(clock: Clock, editing: TrajectoryTask) -> None:
    left = TimeLeft()
    left.seconds_left(Counts(edits=100), 1)
    left.begin(ONE, editing)
    clock.now += 300
    left.heard(ONE, ReplicaProgress.at(editing))
    assert left.seconds_left(Counts(edits=100), 1) is None
    left.heard(ONE, ReplicaProgress.at(editing, 0, 100))
    clock.now += 20
    left.heard(ONE, ReplicaProgress.at(editing, 10, 100))
    counts = Counts(edits=100, edits_done=10)
    assert left.edits_per_second(counts) == pytest.approx(0.5)
    assert left.seconds_left(counts, 1) == pytest.approx(180)
    assert left.seconds_left(counts, 3) == pytest.approx(60)


def test_what_was_done_before_does_not_count(clock: Clock, editing: TrajectoryTask) -> None:
    left = TimeLeft()
    left.seconds_left(Counts(edits=100, edits_done=50), 1)
    left.begin(ONE, editing)
    left.heard(ONE, ReplicaProgress.at(editing, 50, 100))
    clock.now += 10
    assert left.seconds_left(Counts(edits=100, edits_done=60), 1) == pytest.approx(40)


def test_the_first_score_of_a_worker_counts_only_as_long_as_there_is_no_other(clock: Clock, scoring: ScoreTask) -> None:
    left = TimeLeft()
    assert left.seconds_left(Counts(scores=10), 1) is None
    for seconds, done, expected in ((60, 1, 540), (2, 2, 16), (4, 3, 21)):
        left.begin(TWO, scoring)
        clock.now += seconds
        left.end(TWO)
        assert left.seconds_left(Counts(scores=10, scores_done=done), 1) == pytest.approx(expected)


def test_nothing_is_known_before_anything_is_measured(clock: Clock, editing: TrajectoryTask) -> None:
    left = TimeLeft()
    left.end(ONE)
    left.heard(ONE, ReplicaProgress.at(editing, 1, 2))
    assert left.edits_per_second(Counts(edits=10)) == 0
    assert left.seconds_left(Counts(edits=10), 1) is None
    assert left.seconds_left(Counts(), 1) == 0
