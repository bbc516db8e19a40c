"""A run that is asked to stop publishes where it is; who asks twice is obeyed at once."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from local_runs import run
from repository import REPOSITORY
from sweep_files import results_of, tiny, with_fewer_steps, write_sweep
from waiting import wait_until

from workflows.runs.interrupts import interrupts
from workflows.sweeps.expand import load_sweep


def test_the_first_signal_asks_and_the_second_ends() -> None:
    asked: list[str] = []
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with interrupts(lambda: asked.append("stop")):
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked == ["stop"]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert asked == ["stop"]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_closed_terminal_asks_once_however_often_it_says_so() -> None:
    asked: list[str] = []
    with interrupts(lambda: asked.append("stop")):
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)
        assert asked == ["stop"]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


def test_work_in_this_process_ends_when_its_grace_is_over(caplog: pytest.LogCaptureFixture) -> None:
    asked: list[str] = []

    def work() -> None:
        with interrupts(lambda: asked.append("stop"), grace_seconds=0.1):
            os.kill(os.getpid(), signal.SIGTERM)
            # A batch that goes on and on: only the end of the grace ends it.
            while True:
                threading.Event().wait(0.01)

    with caplog.at_level("WARNING", logger="workflows"), pytest.raises(KeyboardInterrupt):
        work()
    assert asked == ["stop"]
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("stopping: batches under way are ended and published, within 0 s; the same signal again")
    assert second.startswith("the batch under way has not ended")


# One call of C that lasts for hours: no handler of Python runs before it returns.
DEAF = """
import hashlib, os, signal, sys, threading
from workflows.runs import interrupts as module

module._REACT_SECONDS = module._UNWIND_SECONDS = 0.1
with module.interrupts(lambda: None, grace_seconds=float(sys.argv[1])):
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""


@pytest.mark.parametrize(("grace", "signals"), [(0.1, 1), (1e6, 2)])
def test_a_call_that_never_returns_is_ended_by_the_grace_and_by_a_second_signal(grace: float, signals: int) -> None:
    command = [sys.executable, "-c", DEAF, str(grace)]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    said = process.stdout.readline()
    # Said at once, although the main thread hears nothing; the second signal is not merged with the first.
    assert "stopping: batches under way are ended and published" in said
    if signals == 2:
        process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate()
    assert process.returncode == 130, rest
    assert "run the same command to resume from the last checkpoints" in rest


def test_a_hangup_that_is_ignored_stays_ignored() -> None:
    asked: list[str] = []
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupts(lambda: asked.append("stop")):
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert asked == []


@pytest.mark.parametrize(
    "how",
    ["--local", pytest.param("--num-cpus=1", marks=[pytest.mark.ray, pytest.mark.slow])],
)
def test_a_run_whose_terminal_is_closed_publishes_where_it_is(tmp_path: Path, how: str) -> None:
    streams = [{"dataset": "factworld", "edits": 100, "order": "shuffled"}]
    path = write_sweep(
        tmp_path,
        tiny(seeds=[0], methods=["memit"], streams=streams, checkpoint_every=100, evaluators={"geometry": {}}),
    )
    root = tmp_path / "root"
    command = [sys.executable, "-m", "workflows.cli", "run", str(path), how, "--root", str(root)]
    driver, terminal = pty.fork()
    if driver == 0:
        os.chdir(REPOSITORY)
        os.execv(sys.executable, command)
    said = []
    while not list(root.glob("trajectories/*/progress.json")):
        if select.select([terminal], [], [], 0.05)[0]:
            said.append(os.read(terminal, 1 << 16))
    # The kernel sends SIGHUP to every process of the terminal's foreground group, and writing to it fails.
    os.close(terminal)
    _, status = os.waitpid(driver, 0)
    assert os.waitstatus_to_exitcode(status) == 130, b"".join(said).decode()
    (progress,) = root.glob("trajectories/*/progress.json")
    record = json.loads(progress.read_text())
    assert record["state"] == "stopped"
    assert 0 < record["edits"] < 100
    assert (progress.parent / "checkpoints" / f"{record['edits']:06d}" / "manifest.json").exists()


def test_a_local_run_publishes_where_it_is_and_resumes_from_there(tmp_path: Path) -> None:
    streams = [{"dataset": "factworld", "edits": 40, "order": "shuffled"}]
    settings = {"streams": streams, "checkpoint_every": 40, "evaluators": {"geometry": {}}}
    path = write_sweep(tmp_path, tiny(seeds=[0], methods=with_fewer_steps("memit"), **settings))
    sweep, root = load_sweep(path), tmp_path / "root"
    command = [sys.executable, "-m", "workflows.cli", "run", str(path), "--local", "--root", str(root)]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    wait_until(lambda: list(root.glob("trajectories/*/progress.json")), of=process)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate()
    assert process.returncode == 130, said
    assert "run the same command to resume from the last checkpoints" in said
    (progress,) = root.glob("trajectories/*/progress.json")
    record = json.loads(progress.read_text())
    assert record["state"] == "stopped"
    assert 0 < record["edits"] < 40
    assert (progress.parent / "checkpoints" / f"{record['edits']:06d}" / "manifest.json").exists()
    assert run(sweep, root).complete
    assert run(sweep, tmp_path / "quiet").complete
    assert results_of(root) == results_of(tmp_path / "quiet") != {}
