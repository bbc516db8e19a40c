"""A sweep on three nodes under kills: `python -m benchmarks.chaos` and `python -m benchmarks.soak`, short forms."""

from pathlib import Path

import pytest

from benchmarks.chaos import under_chaos
from benchmarks.disturbed import INTERVAL
from benchmarks.soak import growth, soak


@pytest.mark.ray
@pytest.mark.long
def test_a_sweep_under_kills_gives_the_bytes_of_a_quiet_one(tmp_path: Path) -> None:
    report = under_chaos(tmp_path, trajectories=6, seed=0, period=4.0, limit_seconds=800.0)
    assert report.exit_code == 0, (tmp_path / "driver.log").read_text(encoding="utf-8")
    assert report.kills.total() >= 2
    assert report.different == ()
    assert report.redone.most <= INTERVAL
    assert report.redone.passed_over == 0


@pytest.mark.ray
@pytest.mark.long
def test_a_driver_under_kills_loses_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    found = soak(tmp_path, trajectories=6, edits=60, seconds=80.0, period=10.0, seed=1, tell=lambda _: None)
    assert sum(found.kills.values()) >= 3
    # So short a time says nothing yet about memory and descriptors, which follow the workers alive.
    measured = {row.what: row for row in found.rows() if "memory" not in row.what and "descr" not in row.what}
    assert [what for what, row in measured.items() if not row.met] == []


def test_growth_is_taken_from_the_second_quarter_to_the_last() -> None:
    # A start that settles, then a level; then the same with a leak.
    level = [0.0, 5.0, 9.0, *[10.0] * 9]
    assert growth(level) == 0
    assert growth([value + place for place, value in enumerate(level)]) == 6
    with pytest.raises(ValueError, match="four"):
        growth([3.0, 3.0, 3.0])
