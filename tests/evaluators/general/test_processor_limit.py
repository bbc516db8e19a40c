"""Filters of a task end: an expression that takes without end costs its task, and nothing else."""

import re
import signal
import threading
import time

import pytest

from evaluators.general.processor_limit import ProcessorLimitError, processor_limit

# Doubles its steps with every letter.
ENDLESS = re.compile(r"(a|aa)+$")
TEXT = "a" * 60 + "b"


def test_an_expression_that_takes_without_end_is_ended_and_everything_is_as_before() -> None:
    handler, started = signal.getsignal(signal.SIGVTALRM), time.process_time()
    limit = processor_limit(0.2, what="filter_list")
    with pytest.raises(ProcessorLimitError, match=r"filter_list took more than 0\.2 s"), limit:
        ENDLESS.findall(TEXT)
    assert time.process_time() - started < 5
    assert signal.getsignal(signal.SIGVTALRM) is handler
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


def test_what_ends_in_time_and_what_another_thread_does_is_left_alone() -> None:
    found: list[object] = []

    def work() -> None:
        with processor_limit(1e-6, what="filter_list"):
            found.append(re.findall("a+", TEXT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    with processor_limit(5, what="filter_list"):
        assert found == [re.findall("a+", TEXT)]
