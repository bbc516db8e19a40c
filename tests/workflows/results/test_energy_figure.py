"""The axis of the energy figure: large drifts of several methods beside each other, and small ones of a real model."""

import pyarrow as pa
import pytest

from workflows.results.figures.contract import Look
from workflows.results.figures.energy import FIGURE


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
