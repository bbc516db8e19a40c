"""The figure of REVIVE's causal experiments: each score at the level and the band of its step."""

from dataclasses import replace
from pathlib import Path

import pytest
from figure_parts import spectrum_sweep

from workflows.results.figures.contract import FigureAsk, FigureSource, Look
from workflows.results.figures.make import make_figure
from workflows.results.sql.sweep_roots import open_roots

ASK = FigureAsk("argmax", "rewrite", "argmax")


def test_a_step_of_an_experiment_on_the_spectrum_is_at_its_level_and_band(tmp_path: Path) -> None:
    """The step after the last level repeats it, and is not drawn."""
    scores = spectrum_sweep(tmp_path)
    with FigureSource.open(open_roots([str(tmp_path)])[0]) as source:
        made = make_figure(source, "causal", ASK)
        of_a_task = make_figure(source, "causal", replace(ASK, tasks=("task",))).table.to_pylist()
    rows = made.table.to_pylist()
    assert {(row["experiment"], row["level"], row["low"]): row["mean"] for row in rows} == pytest.approx(scores)
    assert {row["task"] for row in rows} == {"suite"}
    kept, noise = made.figure.draw(made.table, Look(6.75, {})).axes
    assert list(kept.lines[0].get_xydata().ravel()) == pytest.approx([0.2, 0.2, 0.9, 0.1])
    # The larger norm first, each over the middles of its bands from left to right.
    assert list(noise.lines[0].get_xydata().ravel()) == pytest.approx([0.25, 0.12, 0.75, 0.11])
    assert {row["task"] for row in of_a_task} == {"task"}
