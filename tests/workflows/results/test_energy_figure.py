"""The energy figure: its axis for large drifts of several methods and for small ones, and which scores it has."""

from pathlib import Path

import pyarrow as pa
import pytest
from figure_parts import GENERAL
from store_parts import GEOMETRY, put_checkpoint, score, shared, trajectory

from sphere_core.foundation.storage import Storage
from workflows.replicas.row_writer import encode_rows
from workflows.results.figures.contract import FigureAsk, FigureSource, Look
from workflows.results.figures.energy import FIGURE
from workflows.results.sql.sweep_roots import open_roots
from workflows.store.layout import PLAN_FILE
from workflows.store.plan import SweepPlan


@pytest.mark.parametrize(
    ("drifts", "scale"),
    [((-2e-5, 3e-5), "linear"), ((-2e-5, 0.0), "linear"), ((-2e-5, 0.4), "symlog"), ((-0.3, 1e-6), "symlog")],
)
def test_drifts_below_the_logarithmic_part_have_a_linear_axis_of_their_own(
    drifts: tuple[float, float], scale: str
) -> None:
    place = {"model": "m", "stream": "s", "method": "memit", "seed": 0, "site": None, "status": "ok"}
    measured = {"strip": "geometry", "metric": "he_drift", "protocol": ""}
    rows = [
        {**place, **measured, "edits": edits, "value": drift, "mean": drift}
        for edits, drift in zip((100, 200), drifts, strict=True)
    ]
    drawn = FIGURE.draw(pa.Table.from_pylist(rows), Look(6.75, {}))
    upper = drawn.subfigs[0].axes[0]
    low, high = upper.get_ylim()
    assert upper.get_yscale() == scale
    assert low <= min(drifts)
    assert high >= max(drifts)
    if max(drifts) > 0:
        assert high < 2 * max(drifts)


def test_general_ability_is_below_the_energy_where_no_edit_is_scored(tmp_path: Path) -> None:
    """As in experiments on the spectrum, which write no edits: the strip was empty."""
    storage, plan = Storage(tmp_path), trajectory("truncate", 0, evaluations=(GENERAL, GEOMETRY))
    for edits, value in ((4, 0.9), (8, 0.3)):
        put_checkpoint(storage, plan, edits)
        rows = {GENERAL: score("general_mean", "lm_eval", value, "suite"), GEOMETRY: score("he_drift", "exact", 0.1)}
        for evaluation, one in rows.items():
            storage.write_bytes(plan.rows_path(edits, evaluation), encode_rows(shared(plan, edits, evaluation), [one]))
    sweep = SweepPlan(name="s", trajectories=(plan,), bases=(), recipes=())
    storage.write_bytes(PLAN_FILE, sweep.model_dump_json().encode())
    ask = FigureAsk("argmax", "rewrite", "argmax", against="he_drift")
    with FigureSource.open(open_roots([str(tmp_path)])[0]) as source:
        table = FIGURE.table(source, ask)
    lower = FIGURE.draw(table, Look(6.75, {})).subfigs[0].axes[1]
    assert lower.lines[0].get_xydata().tolist() == [[4, 0.9], [8, 0.3]]
    assert {row["metric"] for row in table.to_pylist() if row["strip"] == "score"} == {"suite"}
