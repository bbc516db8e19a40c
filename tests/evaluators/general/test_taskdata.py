"""Four real benchmark files as a user's own tasks, offline, on the embedded model; skipped without them."""

import os
import shutil
from pathlib import Path

import pytest
from repository import REPOSITORY
from task_parts import evaluator, named

from evaluators.base import Scored, Subject
from evaluators.general.evaluator import GeneralAbility
from sphere_core.models import load_model

# A checkout beside the folder of shared material, or wherever this says.
TASKDATA = Path(os.environ.get("SPHERE_TASKDATA", REPOSITORY.parent / "shared" / "taskdata"))
LIMIT = 6
ROWS = {
    "edit_rte": 2489,
    "edit_boolq": 3267,
    "edit_nq": 3610,
    "edit_nq_passage": 3610,
    "edit_gsm8k": 1319,
    "edit_gsm8k_given_rationale": 1319,
}
CHOICES = {"edit_rte": ["False", "True"], "edit_boolq": ["no", "yes"]}
METRICS = {
    "edit_rte": {"acc", "f1", "mcc"},
    "edit_boolq": {"acc", "f1", "mcc"},
    "edit_nq": {"em", "contains", "empty"},
    "edit_nq_passage": {"em", "contains", "empty"},
    "edit_gsm8k": {"last_number", "no_number"},
    "edit_gsm8k_given_rationale": {"last_number", "no_number"},
}

pytestmark = pytest.mark.skipif(not TASKDATA.is_dir(), reason="the benchmark files are not at hand")


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> GeneralAbility:
    """The task files with the place of the data filled in, and room for the embedded model's 128 positions."""
    folder = tmp_path_factory.mktemp("taskdata") / "real"
    shutil.copytree(TASKDATA / "lm_eval_tasks", folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in folder.glob("*.yaml"):
        text = file.read_text(encoding="utf-8").replace("TASKDATA", str(TASKDATA))
        file.write_text(text.replace("max_gen_toks: 256", "max_gen_toks: 16"), encoding="utf-8")
    return evaluator(folder, limit=LIMIT, batch_size=16, trust_task_code=True)


@pytest.fixture(scope="module")
def scored(suite: GeneralAbility) -> Scored:
    model = load_model("factworld", dtype="float32", device="cpu")
    return suite.score(Subject(model, (), edits=0))


def test_every_row_of_the_files_is_there(suite: GeneralAbility) -> None:
    (loaded,) = suite.load()
    assert {name: len(task.task.eval_docs) for name, task in loaded.tasks.items()} == ROWS
    for name, choices in CHOICES.items():
        task = loaded.tasks[name].task
        documents = task.eval_docs
        assert {tuple(task.doc_to_choice(documents[place])) for place in (0, 1, ROWS[name] - 1)} == {tuple(choices)}
        assert {task.doc_to_target(documents[place]) for place in range(40)} == {0, 1}


def test_the_plumbing_is_right(scored: Scored) -> None:
    assert scored.failures == ()
    rows = named(scored.rows)
    for name, metrics in METRICS.items():
        found = {metric: rows[metric, name] for metric in metrics}
        assert {row.n for row in found.values()} == {LIMIT}
        assert {row.status for row in found.values()} == {"ok"}
        for metric in metrics - {"f1", "mcc"}:
            row = found[metric]
            assert row.stderr == pytest.approx((row.value * (1 - row.value) / LIMIT) ** 0.5)
            assert 0 <= row.ci_low <= row.value <= row.ci_high <= 1
    documents = scored.tables["documents"].to_pylist()
    assert {name: sum(row["task"] == name for row in documents) for name in ROWS} == dict.fromkeys(ROWS, LIMIT)
    assert {len(row["loglikelihoods"]) for row in documents if row["task"] in CHOICES} == {2}
    # The folder's group, weighted by size: of the tasks that report accuracy.
    assert rows["acc", "edit_general"].n == 2 * LIMIT
    parts = [rows["acc", name].value for name in CHOICES]
    assert rows["acc", "edit_general"].value == pytest.approx(sum(parts) / 2)
