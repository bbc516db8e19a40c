"""Sweeps over files in the published schemas, own facts and conflicts, from the file to the rows."""

import json
from pathlib import Path

import pyarrow.dataset as pds
import pytest
from command_line import sphere
from repository import DATASETS
from sweep_files import tiny, write_sweep

from sphere_core.foundation.errors import InputError
from workflows.sweeps.reading import read_sweep


def test_every_schema_goes_from_its_file_to_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"counterfact": "counterfact.json", "zsre": "zsre_mend_eval.json", "mquake": "mquake_cf.json"}
    streams = [
        {"dataset": name, "path": str(DATASETS / file), "edits": 3, "order": "shuffled"} for name, file in files.items()
    ]
    streams.append({"dataset": "facts", "path": str(DATASETS / "facts.jsonl"), "edits": 2})
    streams.append({"dataset": "factworld", "edits": 6, "conflicts": {"share": 0.34, "distance": 2}})
    settings = tiny(streams=streams, seeds=[0], methods=["memit"], evaluators={"edit_quality": {}})
    path = write_sweep(tmp_path, settings)
    assert sphere(monkeypatch, "run", path, "--local", "--root", tmp_path / "root") == 0
    rows = pds.dataset(tmp_path / "root" / "rows" / "edit_quality").to_table().to_pylist()
    edited = {(row["dataset"], row["metric"], row["protocol"], row["edits"]): row for row in rows if row["edits"]}
    asked = {
        (dataset, metric): row["n"] for (dataset, metric, protocol, _), row in edited.items() if protocol == "argmax"
    }
    assert asked["counterfact:counterfact", "specificity"] == 3
    assert asked["zsre:zsre_mend_eval", "generalization"] == 3
    assert asked["mquake:mquake_cf", "multi_hop"] == 2
    assert asked["facts:facts", "portability"] == 1
    # Two of the six edits contradict an earlier one, which is then asked no longer.
    assert edited["factworld", "efficacy", "argmax", 6]["n"] == 4
    assert {row["stream_order"] for row in rows if row["dataset"] == "factworld"} == {"canonical+conflicts:0.34@2"}
    # The plan names each file by what it hashes to.
    specs = [json.loads(found.read_text()) for found in (tmp_path / "root").glob("trajectories/*/spec.json")]
    hashed = {spec["stream"]["dataset"]: spec["stream"]["sha256"] for spec in specs}
    assert hashed["factworld"] is None
    assert all(len(hashed[name]) == 64 for name in (*files, "facts"))


def test_streams_that_tables_cannot_tell_apart_are_refused(tmp_path: Path) -> None:
    twice = [{"dataset": "factworld", "edits": 6, "order": {"given": f"{folder}/order.json"}} for folder in "ab"]
    with pytest.raises(InputError, match="appears twice: give the second one a `label`"):
        read_sweep(write_sweep(tmp_path, tiny(streams=twice)))
    twice[1]["label"] = "factworld again"
    spec, _ = read_sweep(write_sweep(tmp_path, tiny(streams=twice)))
    assert [stream.name for stream in spec.streams] == ["factworld", "factworld again"]
