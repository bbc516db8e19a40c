"""The sweep over hosts of their own, with their cables pulled, comes out as if nobody had touched it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from repository import REPOSITORY

from benchmarks.network import can_make_hosts


@pytest.mark.ray
@pytest.mark.long
@pytest.mark.timeout(1800)
def test_cut_links_change_nothing(tmp_path: Path) -> None:
    reason = can_make_hosts()
    if reason is not None:
        pytest.skip(reason)
    command = [sys.executable, "-m", "benchmarks.hosts"]
    environment = {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
