"""One small sweep with a scorer that raises: what stands, what is told and done again, and the changes."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console
from sweep_files import tiny, write_sweep
from task_parts import write_jsonl
from typer.testing import CliRunner

from evaluators.base import Scored, Subject
from sphere_core.checkpoints import read_checkpoint
from sphere_core.datasets.factworld.records import edit_records
from sphere_core.datasets.factworld.shipped import shipped_world
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from sphere_core.models import load_model
from workflows.commands import ability, status, tasks
from workflows.replicas.scoring import score_subject
from workflows.replicas.tasks import ScoreTask
from workflows.results.sql.sweep_roots import SweepRoot
from workflows.results.tables.ability import ability_table
from workflows.runs.sweep import RunOptions, run_sweep
from workflows.store.layout import checkpoints_folder
from workflows.store.plan import read_plan
from workflows.store.state import derive_state
from workflows.sweeps.expand import load_sweep

TASK = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: facts.jsonl}}}}
test_split: test
output_type: {kind}
doc_to_text: {text}
doc_to_target: {target}
{more}
metadata: {{version: 1.0}}
"""
CHOICES = "doc_to_choice: choices\nmetric_list:\n  - {metric: acc}"
READING = "metric_list:\n  - {metric: word_perplexity}"
RAISING = """\
process_results: !function scorer.outcome
metric_list:
  - {metric: right, aggregation: mean, higher_is_better: true}
"""


def options(root: Path, *, retry: bool = False) -> RunOptions:
    return RunOptions(root=str(root), address=None, local=True, num_cpus=None, retry_failed=retry, steal=False)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, int]:
    """A sweep's file, its root and its exit code: three tasks over what the model knows, one with a broken scorer."""
    folder = tmp_path_factory.mktemp("ability")
    suite = folder / "facts"
    suite.mkdir()
    rows = []
    for place, record in enumerate(edit_records(shipped_world())[:40]):
        rewrite = record["requested_rewrite"]
        choices = [rewrite["target_true"]["str"], rewrite["target_new"]["str"]]
        prompt = rewrite["prompt"].format(rewrite["subject"])
        rows.append({"prompt": prompt, "choices": choices[:: 1 - 2 * (place % 2)], "label": place % 2})
    write_jsonl(suite / "facts.jsonl", rows)
    (suite / "know.yaml").write_text(
        TASK.format(name="know", kind="multiple_choice", text="prompt", target="label", more=CHOICES)
    )
    text = '"{{prompt}} {{choices[label]}}."'
    (suite / "read.yaml").write_text(
        TASK.format(name="read", kind="loglikelihood_rolling", text='""', target=text, more=READING)
    )
    (suite / "fail.yaml").write_text(
        TASK.format(
            name="fail", kind="multiple_choice", text="prompt", target="label", more=CHOICES + "\n" + RAISING
        ).replace("metric_list:\n  - {metric: acc}\n", "")
    )
    (suite / "scorer.py").write_text("def outcome(doc, results):\n    return {'right': doc['gold'] == 0}\n")
    settings = tiny(
        streams=[{"dataset": "factworld", "edits": 8}],
        methods=["memit"],
        seeds=[0],
        evaluators={"general": {"tasks": ["facts"]}},
    )
    path = write_sweep(folder, settings)
    root = folder / "root"
    code = run_sweep(load_sweep(path, trust_task_code=True), options(root), Console(quiet=True))
    return path, root, code


def failed_files(root: Path) -> list[Path]:
    return sorted((root / "errors").glob("*.json"))


def test_what_failed_is_reported_and_the_rest_is_kept(swept: tuple[Path, Path, int]) -> None:
    path, root, code = swept
    assert code == 1
    records = [json.loads(file.read_text()) for file in failed_files(root)]
    # Two checkpoints and the unedited model.
    assert [record["error"] for record in records] == ["KeyError"] * 3
    assert all("doc['gold']" in record["traceback"] and record["task"].endswith(" fail") for record in records)
    told = CliRunner().invoke(status.app, [str(root)]).stdout
    assert "failures (3)" in told
    assert "KeyError" in told
    rows = [row for file in (root / "rows" / "general").glob("*.parquet") for row in pq.read_table(file).to_pylist()]
    found = {(row["task"], row["metric"]): row["status"] for row in rows}
    assert found == {
        ("know", "acc"): "ok",
        ("know", "top_answer_share"): "ok",
        ("read", "word_perplexity"): "ok",
        ("fail", "right"): "failed",
        ("facts", "general_mean"): "failed",
    }
    assert {row["reason"] for row in rows if row["task"] == "fail"} == {"KeyError: 'gold'"}
    # The same command again does not try again by itself, and still says so.
    assert run_sweep(load_sweep(path, trust_task_code=True), options(root), Console(quiet=True)) == 1
    assert len(failed_files(root)) == 3


def test_changes_from_the_unedited_model(swept: tuple[Path, Path, int]) -> None:
    _, root, _ = swept
    storage = Storage(root)
    plan = read_plan(storage)
    table = ability_table(SweepRoot.of(storage, plan), by_edits=True).to_pylist()
    assert [row["edits"] for row in table if row["task"] == "know"] == [0, 4, 8]
    by_key = {(row["edits"], row["task"]): row for row in table}
    documents = {
        pq.read_table(file)["edits"][0].as_py(): pq.read_table(file).to_pylist()
        for file in (root / "details" / "documents").glob("*.parquet")
    }
    for edits in (4, 8):
        after = [dict(row["metrics"])["acc"] for row in documents[edits] if row["task"] == "know"]
        before = [dict(row["metrics"])["acc"] for row in documents[0] if row["task"] == "know"]
        row = by_key[edits, "know"]
        assert row["change"] == pytest.approx(np.mean(after) - np.mean(before))
        assert row["change"] == pytest.approx(row["score"] - by_key[0, "know"]["score"])
        assert row["low"] <= row["score"] <= row["high"]
        assert 0 < row["p"] <= 1
        reading = by_key[edits, "read"]
        assert reading["change"] == pytest.approx(np.log(reading["score"] / by_key[0, "read"]["score"]))
        assert reading["change_low"] < reading["change"] < reading["change_high"]
    assert by_key[8, "fail"]["status"] == "failed"
    assert by_key[0, "know"]["change"] is None
    assert 0.4 < by_key[0, "know"]["top answer"] < 0.7
    last = ability_table(SweepRoot.of(storage, plan), by_edits=False, task="know")
    assert last["edits"].to_pylist() == [0, 8]
    with pytest.raises(InputError, match="no general ability"):
        ability_table(SweepRoot.of(storage, plan), by_edits=False, task="none")
    shown = CliRunner().invoke(ability.app, [str(root)])
    assert (shown.exit_code, "failed" in shown.stdout, "word_perplexity" in shown.stdout) == (0, True, True)


def test_the_weights_that_are_scored_are_those_of_the_checkpoint(swept: tuple[Path, Path, int]) -> None:
    """Their digest stands in the rows, an evaluator that leaves others behind is refused, and the base comes back."""
    path, root, _ = swept
    sweep = load_sweep(path, trust_task_code=True)
    (plan,) = sweep.plan.trajectories
    evaluation = plan.evaluations[0]
    storage = Storage(root)
    model = load_model("factworld", dtype="float32", device="cpu")
    model.open_sites(sweep.specs[plan.id].hyperparameters.layers)
    for edits in (4, 8):
        stored = pq.read_table(io.BytesIO(storage.read_bytes(plan.rows_path(edits, evaluation))))["weights_digest"]
        model.load_weights(read_checkpoint(storage.child(checkpoints_folder(plan.id)), edits).weights)
        assert set(stored.to_pylist()) == {model.weights_digest()}
    model.restore_base()

    class Careless:
        """Leaves zeros where the weights were."""

        kind, reads_generation, reads_previous, reads_moments = "general", False, False, False

        def identity(self) -> dict[str, object]:
            return {}

        def score(self, subject: Subject) -> Scored:
            site = subject.model.sites[0]
            subject.model.set_weight(site, torch.zeros_like(subject.model.weight(site)))
            return Scored([])

    task = ScoreTask(plan, sweep.specs[plan.id], 8, evaluation, sweep.evaluators["general"])
    with pytest.raises(RuntimeError, match="changed the model that it was to score"):
        score_subject(task, model, (), Careless(), storage)


def test_the_list_of_suites() -> None:
    shown = CliRunner().invoke(tasks.app, [])
    assert shown.exit_code == 0
    assert all(name in shown.stdout for name in ("sphere", "alphaedit", "probe", "quick", "factworld", "gsm8k"))
    one = CliRunner().invoke(tasks.app, ["quick", "--check"])
    assert one.exit_code == 1
    assert "Rowan/hellaswag" in one.stdout
    assert "source:" in one.stdout
    assert CliRunner().invoke(tasks.app, ["factworld", "--check"]).exit_code == 0


def test_only_what_failed_is_done_again(swept: tuple[Path, Path, int]) -> None:
    """Last: it mends the scorer."""
    path, root, _ = swept
    before = {file: file.stat().st_mtime_ns for file in (root / "scores").rglob("*.parquet")}
    assert len(before) == 6
    # The task gets the data it asks for. A changed scorer would be another evaluation, with row files of its own.
    sweep = load_sweep(path, trust_task_code=True)
    (path.parent / "facts" / "scorer.py").write_text("def outcome(doc, results):\n    return {'right': 1.0}\n")
    assert run_sweep(sweep, options(root, retry=True), Console(quiet=True)) == 0
    assert failed_files(root) == []
    after = {file: file.stat().st_mtime_ns for file in (root / "scores").rglob("*.parquet")}
    assert len(after) == 9
    assert {file: after[file] for file in before} == before
    assert derive_state(Storage(root), read_plan(Storage(root))).is_complete
    rows = [row for file in (root / "rows" / "general").glob("*.parquet") for row in pq.read_table(file).to_pylist()]
    assert {row["status"] for row in rows} == {"ok"}
