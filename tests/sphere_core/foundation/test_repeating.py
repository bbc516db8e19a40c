import threading
import time

import pytest

from sphere_core.foundation.repeating import Repeating


def wait_for(happened: threading.Event) -> None:
    assert happened.wait(20.0)


def test_it_is_called_again_until_it_is_stopped() -> None:
    thrice, calls = threading.Event(), []

    def beat() -> bool:
        calls.append(threading.current_thread().name)
        if len(calls) == 3:
            thrice.set()
        return True

    repeating = Repeating(beat, seconds=0.001, name="beats")
    assert not repeating.is_alive
    repeating.start()
    wait_for(thrice)
    repeating.stop()
    made = len(calls)
    time.sleep(0.02)
    assert (len(calls), repeating.is_alive) == (made, False)
    assert set(calls) == {"beats"}


def test_a_stop_before_the_first_call_makes_none() -> None:
    calls: list[int] = []
    repeating = Repeating(lambda: bool(calls.append(1)), seconds=600.0, name="beats")
    repeating.start()
    repeating.stop()
    assert calls == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("end", ["false", "raises"])
def test_it_ends_by_itself(end: str) -> None:
    calls: list[int] = []

    def beat() -> bool:
        calls.append(1)
        if end == "raises":
            raise ValueError("why")
        return False

    repeating = Repeating(beat, seconds=0.001, name="beats")
    repeating.start()
    deadline = time.monotonic() + 20.0
    while repeating.is_alive and time.monotonic() < deadline:
        time.sleep(0.001)
    assert (len(calls), repeating.is_alive) == (1, False)


def test_a_call_that_hangs_is_waited_for_so_long_and_no_longer() -> None:
    begun, may_end = threading.Event(), threading.Event()

    def beat() -> bool:
        begun.set()
        return may_end.wait(20.0)

    repeating = Repeating(beat, seconds=0.001, name="beats")
    repeating.start()
    wait_for(begun)
    repeating.stop(wait_seconds=0.01)
    assert repeating.is_alive
    may_end.set()
    repeating.stop()
    assert not repeating.is_alive
