"""One task's failure costs that task; documents stand behind scores; results are kept under the weights' digest."""

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from eval_parts import TINY_LLAMA, golden_requests, subject_of, tiny_llama
from lm_eval.tasks import TaskManager
from task_parts import CHOICE, READING, SCORED, SCORER, choice_rows, evaluator, know_folder, named, write_jsonl

from evaluators.base import Subject
from evaluators.general.kept_results import TaskResult, keep_result, kept_result
from sphere_core.models import EditableModel

GROUP = """\
group: everything
task: [know_choice, {more}]
aggregate_metric_list:
  - {{metric: acc, weight_by_size: {by_size}}}
"""


class Kept:
    """Results in memory, with a count of what was found."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.found = 0

    def read(self, key: str) -> bytes | None:
        self.found += key in self.files
        return self.files.get(key)

    def write(self, key: str, data: bytes) -> None:
        self.files[key] = data


def keeping(model: EditableModel, kept: Kept) -> Subject:
    return Subject(model, golden_requests(), edits=24, kept=kept)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return know_folder(tmp_path)


@pytest.fixture(scope="module")
def llama() -> EditableModel:
    """Shared by tests that leave its weights alone."""
    return tiny_llama()


def moved(model: EditableModel) -> EditableModel:
    site = model.open_sites([1])[0]
    generator = torch.Generator().manual_seed(0)
    model.set_weight(site, model.weight(site) + 0.5 * torch.randn(site.d_out, site.d_in, generator=generator))
    return model


def test_a_scorer_that_raises_costs_its_own_task(llama: EditableModel, folder: Path) -> None:
    whole = evaluator(folder).score(subject_of(llama))
    (folder / "scorer.py").write_text(SCORER.replace('wanted = set(doc["answer"])', 'wanted = set(doc["answr"])'))
    (folder / "letters.yaml").write_text(SCORED)
    kept = Kept()
    scored = evaluator(folder, trust_task_code=True).score(keeping(llama, kept))
    rows = named(scored.rows)
    for metric in ("letters", "some"):
        row = rows[metric, "know_letters"]
        assert (row.status, row.value, row.n, row.higher_is_better) == ("failed", None, 24, True)
        assert row.reason == "KeyError: 'answr'"
    mean = rows["general_mean", "know"]
    assert (mean.status, mean.reason) == ("failed", "failed: know_letters")
    (failure,) = scored.failures
    assert (failure.part, failure.error) == ("know_letters", "KeyError")
    assert 'wanted = set(doc["answr"])' in failure.traceback
    # All else stands as it was.
    others = [row for row in whole.rows if row.metric != "general_mean"]
    assert [row for row in scored.rows if row.task not in ("know_letters", "know")] == others
    assert scored.tables["documents"].equals(whole.tables["documents"])
    assert whole.failures == ()
    # Only what was scored is kept: mended, the failed task alone is scored.
    assert len(kept.files) == 2
    (folder / "scorer.py").write_text(SCORER)
    again = evaluator(folder, trust_task_code=True).score(keeping(llama, kept))
    assert (kept.found, len(kept.files), again.failures) == (2, 3, ())
    assert named(again.rows)["general_mean", "know"].status == "ok"


def test_a_template_that_fails_on_one_document_costs_its_own_task(llama: EditableModel, folder: Path) -> None:
    (folder / "zero.yaml").write_text(
        CHOICE.replace("know_choice", "know_zero")
        .replace("choice.jsonl", "zero.jsonl")
        .replace("doc_to_text: prompt", 'doc_to_text: "{{6 // n}} {{prompt}}"')
    )
    write_jsonl(folder / "zero.jsonl", [{**row, "n": int(place != 5)} for place, row in enumerate(choice_rows())])
    scored = evaluator(folder).score(subject_of(llama))
    assert [(failure.part, failure.error) for failure in scored.failures] == [("know_zero", "ZeroDivisionError")]
    assert named(scored.rows)["acc", "know_zero"].n == 0
    assert named(scored.rows)["acc", "know_choice"].status == "ok"


def test_documents_stand_behind_every_score(llama: EditableModel, folder: Path) -> None:
    (folder / "reading.yaml").write_text(READING)
    scored = evaluator(folder).score(subject_of(llama))
    rows, documents = named(scored.rows), scored.tables["documents"].to_pylist()
    by_task = {
        name: [row for row in documents if row["task"] == name]
        for name in ("know_choice", "know_write", "know_reading")
    }
    assert {name: len(found) for name, found in by_task.items()} == dict.fromkeys(by_task, 24)
    choice = by_task["know_choice"]
    assert [row["doc_id"] for row in choice] == list(range(24))
    assert len({row["doc_hash"] for row in choice}) == 24
    for row, asked in zip(choice, choice_rows(), strict=True):
        assert row["choice"] == int(np.argmax(row["loglikelihoods"]))
        assert dict(row["metrics"])["acc"] == float(row["choice"] == asked["label"])
        assert (row["finite"], row["tied"], row["target"]) == (True, False, str(asked["label"]))
    accuracy = [dict(row["metrics"])["acc"] for row in choice]
    acc = rows["acc", "know_choice"]
    assert acc.value == np.mean(accuracy)
    assert acc.ci_low < acc.value < acc.ci_high
    written = by_task["know_write"]
    assert all(row["choice"] is None and row["text_length"] > 0 and row["finite"] for row in written)
    assert len({row["text_hash"] for row in written}) > 1
    reading = by_task["know_reading"]
    words = [dict(row["weights"])["word_perplexity"] for row in reading]
    logs = [dict(row["metrics"])["word_perplexity"] for row in reading]
    assert logs == [row["loglikelihoods"][0] for row in reading]
    perplexity = rows["word_perplexity", "know_reading"]
    assert perplexity.value == pytest.approx(math.exp(-sum(logs) / sum(words)))
    assert perplexity.ci_low < perplexity.value < perplexity.ci_high
    assert 0 < perplexity.stderr < perplexity.value


def test_a_nan_shows_in_its_document(folder: Path) -> None:
    model = tiny_llama()
    ids = [set(model.tokenizer(request.question)["input_ids"]) for request in golden_requests()]
    with torch.no_grad():
        model.network.get_input_embeddings().weight[list(ids[3] - set.union(*ids[:3], *ids[4:]))] = float("nan")
    documents = evaluator(folder).score(subject_of(model)).tables["documents"].to_pylist()
    assert [row["doc_id"] for row in documents if row["task"] == "know_choice" and not row["finite"]] == [3]
    # A generated text does not show it: none of them is vouched for.
    assert {row["finite"] for row in documents if row["task"] == "know_write"} == {None}


@pytest.mark.parametrize("by_size", [True, False])
def test_a_group_is_aggregated_as_the_harness_does(llama: EditableModel, folder: Path, by_size: bool) -> None:
    few = CHOICE.replace("know_choice", "know_few").replace("choice.jsonl", "few.jsonl")
    (folder / "few.yaml").write_text(few)
    write_jsonl(folder / "few.jsonl", choice_rows()[:7])
    (folder / "all.yaml").write_text(GROUP.format(more="know_few", by_size=str(by_size).lower()))
    rows = named(evaluator(folder).score(subject_of(llama)).rows)
    for name in ("choice", "few"):
        text = (folder / f"{name}.yaml").read_text()
        (folder.parent / f"{name}.yaml").write_text(text.replace(f"{name}.jsonl", str(folder / f"{name}.jsonl")))
    (folder.parent / "all.yaml").write_text((folder / "all.yaml").read_text())
    manager = TaskManager(include_path=str(folder.parent), include_defaults=False)
    group = manager.load(["everything"])["groups"]["everything"]
    parts = {
        task: {"acc,none": rows["acc", task].value, "acc_stderr,none": rows["acc", task].stderr, "sample_len": n}
        for task, n in (("know_choice", 24), ("know_few", 7))
    }
    theirs = group.aggregate(parts)
    ours = rows["acc", "everything"]
    assert ours.value == theirs["acc,none"]
    assert ours.stderr == pytest.approx(theirs["acc_stderr,none"], rel=0.05)
    assert (ours.n, ours.status) == (31, "ok")


def test_kept_results_belong_to_weights_and_never_to_names(folder: Path, tmp_path: Path) -> None:
    """Every cache warm, weights swapped: two different and correct scores; another folder's name: the same result."""
    kept, warm, model = Kept(), evaluator(folder), tiny_llama()
    base = warm.score(keeping(model, kept))
    assert (len(kept.files), kept.found) == (2, 0)
    changed = warm.score(keeping(moved(model), kept))
    assert (len(kept.files), kept.found) == (4, 0)
    assert changed.rows == evaluator(folder).score(subject_of(model)).rows
    assert named(changed.rows)["acc", "know_choice"].value != named(base.rows)["acc", "know_choice"].value
    model.restore_base()
    back = warm.score(keeping(model, kept))
    assert (len(kept.files), kept.found) == (4, 2)
    assert (back.rows, back.failures) == (base.rows, ())
    assert back.tables["documents"].equals(base.tables["documents"])
    # The same model under another name, the same tasks in another place, another evaluator: found.
    renamed = tmp_path / "an-entirely-different-llama"
    renamed.symlink_to(TINY_LLAMA)
    other = know_folder(tmp_path / "elsewhere")
    assert evaluator(other).score(keeping(tiny_llama(renamed), kept)).rows == base.rows
    assert (len(kept.files), kept.found) == (4, 4)


@pytest.mark.parametrize("change", ["data", "metric", "limit", "batch", "dtype", "generation"])
def test_whatever_can_change_a_score_changes_its_key(folder: Path, change: str) -> None:
    kept, model, settings = Kept(), tiny_llama(), {}
    evaluator(folder / "choice.yaml").score(keeping(model, kept))
    if change == "data":
        write_jsonl(folder / "choice.jsonl", [{**row, "label": 1 - row["label"]} for row in choice_rows()])
    elif change == "metric":
        (folder / "choice.yaml").write_text(CHOICE.replace("metric: acc_norm", "metric: acc_bytes"))
    elif change == "dtype":
        model.network.bfloat16()
    elif change == "generation":
        model.network.generation_config.repetition_penalty = 5.0
    else:
        settings = {"limit": 20} if change == "limit" else {"batch_size": 3}
    evaluator(folder / "choice.yaml", **settings).score(keeping(model, kept))
    assert (len(kept.files), kept.found) == (2, 0)


def test_a_kept_result_comes_back_as_it_was(llama: EditableModel, folder: Path) -> None:
    kept = Kept()
    scored = evaluator(folder / "choice.yaml").score(keeping(llama, kept))
    (key,) = kept.files
    found = kept_result(kept, key)
    assert found is not None
    assert list(found.scores) == [row for row in scored.rows if row.task == "know_choice"]
    assert found.documents.equals(scored.tables["documents"])
    assert found.documents.schema.equals(scored.tables["documents"].schema)
    # A file that was cut short is as good as none.
    kept.files[key] = kept.files[key][:-9]
    assert kept_result(kept, key) is None
    empty = TaskResult((), pa.table({"task": pa.array([], pa.string())}))
    keep_result(kept, key, empty)
    assert kept_result(kept, key) == empty
    assert evaluator(folder / "choice.yaml").score(subject_of(llama)).rows == scored.rows
