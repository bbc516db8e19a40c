"""The whole road on a tiny model of every family: moments, three batches, scores, table, from the published schemas."""

from pathlib import Path

import pytest
from command_line import sphere
from repository import DATASETS
from sweep_files import tiny, write_sweep
from tiny_models import FAMILIES, MIXTURES, TEXTS, tiny_model

from sphere_core.foundation.storage import Storage
from workflows.store.plan import read_plan
from workflows.store.row_reader import read_rows

OVERRIDES = {"layers": [0, 1], "v_num_grad_steps": 3, "nullspace_threshold": None, "nullspace_share": 0.5}


@pytest.mark.parametrize("family", list(FAMILIES))
def test_from_a_model_folder_and_two_data_sets_to_a_table(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_model(family, positions=256)
    model.network.save_pretrained(tmp_path / "model")
    model.tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "corpus.txt").write_text("\n".join(TEXTS * 4), encoding="utf-8")
    preset = "qwen3-30b-a3b" if family in MIXTURES else "factworld"
    method = "moeedit+sphere" if family in MIXTURES else "alphaedit+sphere"
    schemas = {"counterfact": "counterfact.json", "zsre": "zsre_mend_eval.json"}
    path = write_sweep(
        tmp_path,
        tiny(
            models=[{"source": "model", "dtype": "float32", "preset": preset}],
            streams=[
                {"dataset": name, "path": str(DATASETS / file), "edits": 3, "order": "canonical"}
                for name, file in schemas.items()
            ],
            methods=[{"name": method, "hyperparameters": OVERRIDES}],
            seeds=[0],
            batch_size=1,
            checkpoint_every=1,
            moments={"corpus": "corpus.txt", "sentences": 16},
        ),
    )
    assert sphere(monkeypatch, "run", path, "--local", "--root", tmp_path / "root") == 0
    assert sphere(monkeypatch, "table", tmp_path / "root") == 0
    assert capsys.readouterr().out.count(method) >= 2
    storage = Storage(str(tmp_path / "root"))
    rows = read_rows(storage, read_plan(storage)).to_pylist()
    edited = [row for row in rows if row["trajectory_id"] is not None]
    assert {(row["dataset"].partition(":")[0], row["edits"]) for row in edited} == {
        (name, edits) for name in schemas for edits in (1, 2, 3)
    }
    assert {row["status"] for row in edited} == {"ok"}
    assert all(row["value"] > 0 for row in edited if row["metric"] == "delta_norm")
    weights = {row["weights_digest"] for row in rows}
    assert len(weights) == 1 + 6
