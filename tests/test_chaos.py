"""A sweep on three nodes under random kills: `python -m benchmarks.chaos`, a short form of it."""

from pathlib import Path

import pytest

from benchmarks.chaos import under_chaos
from benchmarks.disturbed import INTERVAL


@pytest.mark.ray
@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_sweep_under_kills_gives_the_bytes_of_a_quiet_one(tmp_path: Path) -> None:
    report = under_chaos(tmp_path, trajectories=6, seed=0, period=4.0, limit_seconds=800.0)
    assert report.exit_code == 0, (tmp_path / "driver.log").read_text(encoding="utf-8")
    assert report.kills.total() >= 2
    assert report.different == ()
    assert report.redone.most <= INTERVAL
