"""A head that is gone is noticed, whether a question to it hangs or fails; one that comes back is not missed."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest
from repository import REPOSITORY
from waiting import wait_until

from workflows.cluster.head_watch import ClusterWatch, Snapshot
from workflows.cluster.placement import Node
from workflows.driver.executor import ExecutorError


def snapshot(count: int) -> Snapshot:
    return Snapshot(tuple(Node(f"n{i}", {"CPU": 1.0}, {}) for i in range(count)), frozenset(), frozenset(), 0.0)


class Cluster:
    """Answers with one more node every time, unless it is told to do something else first."""

    def __init__(self) -> None:
        self.asked = 0
        self.instead: Callable[[], object] = lambda: None

    def look(self) -> Snapshot:
        self.asked += 1
        self.instead()
        return snapshot(self.asked)


def watching(cluster: Cluster, patience: float) -> ClusterWatch:
    return ClusterWatch(cluster.look, "head:6379", every_seconds=0.01, patience_seconds=patience)


def fail() -> None:
    raise ConnectionError("refused")


def test_the_newest_look_is_what_counts_and_closing_ends_the_thread() -> None:
    cluster = Cluster()
    watch = watching(cluster, 10.0)
    wait_until(lambda: len(watch.latest().nodes) >= 3)
    watch.close()
    asked = cluster.asked
    time.sleep(0.1)
    assert cluster.asked == asked


@pytest.mark.parametrize("how", ["hangs", "fails"])
def test_a_head_that_is_gone_is_said_to_be(how: str) -> None:
    cluster, never = Cluster(), threading.Event()
    watch = watching(cluster, 0.2)
    cluster.instead = never.wait if how == "hangs" else fail
    wait_until(lambda: watch.is_lost)
    with pytest.raises(ExecutorError, match="head:6379 does not answer any more") as caught:
        watch.latest()
    assert "same command" in caught.value.remedy
    watch.close()
    never.set()


STANDS_STILL = """
import sys, time
from workflows.cluster.head_watch import ClusterWatch, Snapshot

def look():
    time.sleep(0.2)
    print("looked", flush=True)
    return Snapshot((), frozenset(), frozenset(), 0.0)

watch, began = ClusterWatch(look, "head:6379", every_seconds=0.2, patience_seconds=2.0), time.monotonic()
while time.monotonic() - began < 5.5:
    if watch.is_lost:
        sys.exit("lost")
    time.sleep(0.001)
"""


@pytest.mark.slow
def test_a_driver_that_stood_still_itself_gives_the_head_the_time_to_answer() -> None:
    driver = subprocess.Popen([sys.executable, "-c", STANDS_STILL], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    try:
        assert driver.stdout is not None
        for _ in range(2):
            assert driver.stdout.readline() == "looked\n"
        # Between two looks, so that the next answer comes some time after waking.
        os.kill(driver.pid, signal.SIGSTOP)
        time.sleep(3.0)
        os.kill(driver.pid, signal.SIGCONT)
        driver.communicate()
        assert driver.returncode == 0
    finally:
        driver.kill()
        driver.wait()


def test_closing_waits_for_a_look_that_hangs_as_long_as_for_a_head() -> None:
    cluster, never = Cluster(), threading.Event()
    watch = watching(cluster, 0.2)
    cluster.instead = never.wait
    asked = cluster.asked
    wait_until(lambda: cluster.asked > asked)
    watch.close()
    assert watch.is_lost
    never.set()


def test_a_head_that_comes_back_is_not_missed() -> None:
    cluster = Cluster()
    watch = watching(cluster, 5.0)
    cluster.instead = fail
    asked = cluster.asked
    wait_until(lambda: cluster.asked > asked + 3)
    cluster.instead = lambda: None
    stood = len(watch.latest().nodes)
    wait_until(lambda: len(watch.latest().nodes) > stood)
    watch.close()
