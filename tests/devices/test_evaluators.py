"""Every evaluator on a ghost accelerator: the rows of the CPU, and at the second checkpoint no constant moves again."""

from collections.abc import Callable
from pathlib import Path

import pytest
from eval_parts import tiny_llama
from ghost import ghost
from ghost_evaluators import MAKERS, checkpoints
from ghost_parts import on_ghost, over_two_ghosts

from sphere_core.models import EditableModel

# Kernels, waits, bytes to the host and bytes to the device of the second checkpoint's score of four edits. To the host
# go its weights too (135,168 bytes), as the ones before for the next checkpoint, and geometry has those sent back.
SCORE = {
    "edit_quality": (4_200, 116, 142_600, 79_200),
    "geometry": (500, 90, 135_168, 135_168),
    "general": (1_400, 183, 276_500, 5_700),
}


@pytest.mark.parametrize("place", [on_ghost, over_two_ghosts])
@pytest.mark.parametrize("kind", MAKERS)
def test_rows_are_those_of_the_cpu(tmp_path: Path, kind: str, place: Callable[[EditableModel], EditableModel]) -> None:
    expected = checkpoints(tiny_llama, MAKERS[kind](tmp_path / "cpu"))
    with ghost() as counts:
        found = checkpoints(lambda: place(tiny_llama()), MAKERS[kind](tmp_path / "ghost"), counts)
        for one, other in zip(found, expected, strict=True):
            assert len(one.rows) == len(other.rows) > 0
            for mine, theirs in zip(one.rows, other.rows, strict=True):
                assert (mine.metric, mine.status, mine.site, mine.task) == (
                    theirs.metric,
                    theirs.status,
                    theirs.site,
                    theirs.task,
                )
                assert mine.value == pytest.approx(theirs.value, rel=1e-9, abs=1e-12)
        assert counts.kernels > 0
        if place is on_ghost:
            kernels, waits, to_host, to_device = SCORE[kind]
            assert counts.kernels <= kernels, counts.by_kernel.most_common(9)
            assert counts.waits <= waits, counts.waits_at.most_common()
            assert counts.to_host <= to_host, counts.bytes_at.most_common()
            assert counts.to_device <= to_device, counts.bytes_at.most_common()
        # Second moments and directions of the unedited weight are there since the first checkpoint; the weights before
        # are handed over from the host.
        width, weights = 176, 3 * 4 * 64 * 176
        assert counts.to_device < 3 * 8 * width**2 + (weights if kind == "geometry" else 0)
