"""Ray's scratch folder: short enough for its sockets, for its owner alone, removed."""

import stat
from pathlib import Path

import pytest

from sphere_core.foundation.errors import InputError
from workflows.cluster.scratch import RayScratch

SOCKET = "session_2026-11-26_23-41-23_753253_4194304/sockets/plasma_store"


def test_a_temporary_folder_that_is_too_long_is_passed_over(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 80)
    long.mkdir()
    scratch = RayScratch([str(long), str(tmp_path / "missing"), "/tmp"])
    try:
        assert scratch.path.parent.parent == Path("/tmp")
        assert len(str(scratch.path / SOCKET)) <= 107
        assert stat.S_IMODE(scratch.path.parent.stat().st_mode) == 0o700
        assert list(long.iterdir()) == []
    finally:
        scratch.remove()
    assert not scratch.path.parent.exists()


def test_without_a_short_folder_the_remedy_is_said(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 80)
    long.mkdir()
    with pytest.raises(InputError, match="short enough for Ray's sockets") as raised:
        RayScratch([str(long), str(tmp_path / "missing")])
    assert "too long" in str(raised.value.where)
    assert "missing: No such file" in str(raised.value.where)
    assert "TMPDIR" in str(raised.value.remedy)
