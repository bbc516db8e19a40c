"""A run compacts what it finishes: a cache beside results that stay as they are."""

from pathlib import Path

from local_runs import run
from sweep_files import results_of, tiny, write_sweep

from sphere_core.foundation.storage import Storage
from workflows.results.sql.connect import connect
from workflows.sweeps.expand import load_sweep


def test_a_finished_trajectory_is_compacted_and_its_rows_stay_as_they_are(tmp_path: Path) -> None:
    stream = [{"dataset": "factworld", "edits": 8}]
    settings = tiny(methods=["memit"], seeds=[0], streams=stream, checkpoint_every=2)
    settings["evaluators"] = {"geometry": {"spectra": False}, "edit_quality": {"agreement": False}}
    sweep, storage = load_sweep(write_sweep(tmp_path, settings)), Storage(tmp_path / "root")
    assert run(sweep, tmp_path / "root").complete
    (name,) = storage.list("compacted")
    with connect(storage, sweep.plan, views=("scores",)) as connection:
        scores = connection.sql("FROM scores ORDER BY ALL").to_arrow_table()
    results = results_of(tmp_path / "root")
    storage.delete("compacted")
    with connect(storage, sweep.plan, views=("scores",)) as connection:
        assert connection.sql("FROM scores ORDER BY ALL").to_arrow_table().equals(scores)
    # A run with nothing to do writes no cache again, and the results are not touched.
    assert run(sweep, tmp_path / "root").complete
    assert results_of(tmp_path / "root") == results
    assert sweep.plan.trajectories[0].id in name
