"""Processor seconds of a command and everything below it."""

import sys

from benchmarks.two_cores import Run, run_command, scaling_rows

# The parent sleeps; its child works for 0.7 processor seconds.
CHILD = "import time\nwhile time.process_time() < 0.7: pass"
PARENT = (
    f"import subprocess, sys\nchild = subprocess.Popen([sys.executable, '-c', {CHILD!r}])\nchild.wait()\nsys.exit(3)"
)


def test_what_a_child_takes_is_counted() -> None:
    found = run_command([sys.executable, "-c", PARENT])
    assert found.exit_code == 3
    assert 0.4 < found.processor < 1.5
    assert found.wall >= found.processor / 2


def test_two_are_compared_with_one() -> None:
    rows = {row.what: row.measured for row in scaling_rows({1: Run(100, 90, 1, 0), 2: Run(60, 96, 2, 0)})}
    assert rows["utilisation, 1 CPUs"] == 0.9
    assert rows["utilisation, 2 CPUs"] == 0.8
    assert rows["faster"] == 100 / 60
    assert rows["processor seconds over one's"] == 96 / 90
