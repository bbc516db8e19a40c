"""What a killed driver leaves of its session is ended, and only that."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from repository import REPOSITORY
from waiting import wait_until

DRIVER = """
import subprocess, sys, time
from pathlib import Path
from workflows.cluster.session_guard import SessionGuard

folder = Path(sys.argv[1])
SessionGuard(folder)
agent = "import sys, time; log = open(sys.argv[1], 'w'); print('up', flush=True); time.sleep(600)"
for name in (folder / "r" / "agent.log", folder.parent / "other.log"):
    started = subprocess.Popen([sys.executable, "-c", agent, str(name)], stdout=subprocess.PIPE, start_new_session=True)
    started.stdout.readline()
    print(started.pid, flush=True)
time.sleep(600)
"""


def lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_a_killed_driver_leaves_is_ended_and_its_folder_removed(tmp_path: Path) -> None:
    folder = tmp_path / "session"
    (folder / "r").mkdir(parents=True)
    command = [sys.executable, "-c", DRIVER, str(folder)]
    driver = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    agent, other = (int(driver.stdout.readline()) for _ in range(2))
    try:
        assert lives(agent)
        driver.kill()
        driver.wait()
        wait_until(lambda: not lives(agent))
        wait_until(lambda: not folder.exists())
        # A process of no session is left alone.
        assert lives(other)
    finally:
        os.kill(other, signal.SIGKILL)
