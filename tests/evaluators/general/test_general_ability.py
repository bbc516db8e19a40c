"""General ability through the real harness, on small tasks that the tiny model knows."""

import random
import shutil
from pathlib import Path

import lm_eval
import numpy as np
import pytest
import torch
from eval_parts import BREAKERS, golden_requests, subject_of, tiny_llama
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from task_parts import (
    CHOICE,
    HOT,
    READING,
    SAMPLED,
    SCORED,
    SCORER,
    WRITE_BASE,
    choice_rows,
    evaluator,
    know_folder,
    named,
    write_jsonl,
)

from evaluators.base import Subject
from evaluators.general.asked_tasks import harness_version
from evaluators.general.suites import shipped_suites
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.fingerprint import canonical_json
from sphere_core.models import EditableModel, load_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return know_folder(tmp_path)


@pytest.fixture(scope="module")
def llama() -> EditableModel:
    """Shared by tests that leave its weights alone."""
    return tiny_llama()


def test_scores_their_errors_and_the_mean(llama: EditableModel, folder: Path) -> None:
    rows = named(evaluator(folder).score(subject_of(llama)).rows)
    acc, exact = rows["acc", "know_choice"], rows["exact_match", "know_write"]
    assert acc.value == pytest.approx(16 / 24)
    assert exact.value == pytest.approx(23 / 24)
    assert acc.stderr == pytest.approx(np.sqrt(16 / 24 * 8 / 24 / 24))
    assert {row.protocol for row in rows.values()} == {f"lm_eval-{harness_version()}"}
    assert (acc.n, acc.nonfinite, acc.tied, acc.status, acc.higher_is_better) == (24, 0, 0, "ok", True)
    mean = rows["general_mean", "know"]
    assert mean.value == pytest.approx((acc.value + exact.value) / 2)
    assert mean.stderr == pytest.approx(np.hypot(acc.stderr, exact.stderr) / 2)
    assert mean.n == 48
    assert rows["empty_share", "know_write"].value == 0.0
    assert rows["top_answer_share", "know_choice"].value == 0.5
    assert 0 < rows["top_answer_share", "know_write"].value < 0.5
    assert ("acc_norm", "know_choice") in rows
    assert {task for _, task in rows} == {"know_choice", "know_write", "know"}


def test_scores_are_the_harness_s_own(llama: EditableModel, folder: Path) -> None:
    """To the last digit, against a plain model of the harness and its own entry point."""
    ours = named(evaluator(folder / "choice.yaml", batch_size=5).score(subject_of(llama)).rows)
    config = TaskManager(include_defaults=False).load([str(absolute_choice(folder))])
    plain = HFLM(pretrained=llama.network, tokenizer=tiny_llama().tokenizer, batch_size=7)
    theirs = lm_eval.evaluate(plain, config, bootstrap_iters=0)["results"]["know_choice"]
    for metric in ("acc", "acc_norm"):
        assert ours[metric, "know_choice"].value == theirs[f"{metric},none"]
    assert ours["general_mean", "choice.yaml"].value == ours["acc", "know_choice"].value


def absolute_choice(folder: Path) -> Path:
    path = folder.parent / "absolute.yaml"
    path.write_text(CHOICE.replace("choice.jsonl", str(folder / "choice.jsonl")))
    return path


@pytest.mark.parametrize("break_model", BREAKERS, ids=lambda breaker: breaker.__name__)
def test_a_broken_model_is_collapsed(break_model, folder: Path) -> None:
    (folder / "sampled.yaml").write_text(SAMPLED)
    model = tiny_llama()
    break_model(model)
    rows = evaluator(folder).score(subject_of(model)).rows
    assert len(rows) == (2 + 1) + (1 + 2) + (1 + 2) + 1
    assert {row.status for row in rows} == {"collapsed"}
    assert all(row.value is None and row.stderr is None for row in rows)
    assert all(row.nonfinite > 0 or 2 * row.tied > row.n for row in rows)
    assert all(row.nonfinite <= row.n and row.tied <= row.n for row in rows)


def test_warm_caches_never_keep_a_score(folder: Path) -> None:
    """Two weights, one evaluator: each gets what a fresh evaluator gives it, and the first comes back."""
    model, warm = tiny_llama(), evaluator(folder)
    base = warm.score(subject_of(model)).rows
    site = model.open_sites([1])[0]
    generator = torch.Generator().manual_seed(0)
    model.set_weight(site, model.weight(site) + 0.5 * torch.randn(site.d_out, site.d_in, generator=generator))
    digest = model.weights_digest()
    changed = warm.score(subject_of(model)).rows
    assert changed == evaluator(folder).score(subject_of(model)).rows
    assert named(changed)["acc", "know_choice"].value != named(base)["acc", "know_choice"].value
    assert model.weights_digest() == digest
    model.restore_base()
    assert warm.score(subject_of(model)).rows == base


def test_nothing_outside_is_touched(llama: EditableModel, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "scorer.py").write_text(SCORER)
    (folder / "sampled.yaml").write_text(HOT)
    model = tiny_llama()
    model.tokenizer.pad_token = None
    model.tokenizer.padding_side = "right"
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    expected = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002
    capfd.readouterr()
    first = evaluator(folder, trust_task_code=True).score(subject_of(model)).rows
    assert capfd.readouterr().err == ""
    after = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002
    assert after == expected
    assert model.tokenizer.pad_token is None
    assert model.tokenizer.padding_side == "right"
    # Sampling is seeded by the evaluator, so the scores repeat whatever the state outside.
    torch.manual_seed(2)
    assert evaluator(folder, trust_task_code=True).score(subject_of(model)).rows == first


def test_batch_size_and_limit(llama: EditableModel, folder: Path) -> None:
    one = named(evaluator(folder, batch_size=1).score(subject_of(llama)).rows)
    many = named(evaluator(folder, batch_size=24).score(subject_of(llama)).rows)
    assert {key: row.value for key, row in one.items()} == {key: row.value for key, row in many.items()}
    few = named(evaluator(folder, limit=6).score(subject_of(llama)).rows)
    assert few["acc", "know_choice"].n == 6
    assert few["acc", "know_choice"].value == pytest.approx(4 / 6)


def test_one_document_that_is_no_number_is_counted_as_one(folder: Path) -> None:
    """A token that only the first question has: it takes its own task down and no other."""
    model = tiny_llama()
    ids = [set(model.tokenizer(request.question)["input_ids"]) for request in golden_requests()]
    own = ids[0] - set.union(*ids[1:])
    with torch.no_grad():
        model.network.get_input_embeddings().weight[list(own)] = float("nan")
    answers = [{"prompt": r.question, "answer": r.target_true} for r in golden_requests()[1:]]
    write_jsonl(folder / "data" / "write.jsonl", answers)
    found = named(evaluator(folder).score(subject_of(model)).rows)
    assert (found["acc", "know_choice"].nonfinite, found["acc", "know_choice"].status) == (1, "collapsed")
    assert (found["exact_match", "know_write"].nonfinite, found["exact_match", "know_write"].value) == (0, 1.0)
    assert (found["general_mean", "know"].nonfinite, found["general_mean", "know"].status) == (1, "collapsed")


def test_ties_and_empty_texts_are_counted(llama: EditableModel, folder: Path) -> None:
    rows = choice_rows()
    for row in rows[:5]:
        row["choices"] = [row["choices"][0]] * 2
    write_jsonl(folder / "choice.jsonl", rows)
    # Every answer begins with a space: nothing is left of it.
    (folder / "_base.yaml").write_text(WRITE_BASE.replace('until: ["."]', 'until: [" "]'))
    found = named(evaluator(folder).score(subject_of(llama)).rows)
    for metric in ("acc", "acc_norm", "top_answer_share"):
        row = found[metric, "know_choice"]
        assert (row.status, row.n, row.tied, row.nonfinite) == ("ok", 24, 5, 0)
    assert found["empty_share", "know_write"].value == 1.0
    assert found["top_answer_share", "know_write"].value == 1.0
    assert found["exact_match", "know_write"].value == 0.0


def test_perplexity_is_no_part_of_the_mean(llama: EditableModel, folder: Path) -> None:
    (folder / "reading.yaml").write_text(READING)
    found = named(evaluator(folder).score(subject_of(llama)).rows)
    row = found["word_perplexity", "know_reading"]
    assert 1 < row.value < 1e4
    assert (row.n, row.higher_is_better) == (24, False)
    assert row.ci_low < row.value < row.ci_high
    assert found["general_mean", "know"].n == 48
    assert ("top_answer_share", "know_reading") not in found


@pytest.mark.parametrize("break_model", BREAKERS, ids=lambda breaker: breaker.__name__)
def test_a_broken_model_has_no_perplexity(break_model, folder: Path) -> None:
    """Equal logits give the perplexity of a uniform guess, a finite number, and no two answers that could tie."""
    (folder / "reading.yaml").write_text(READING)
    model = tiny_llama()
    break_model(model)
    (row,) = evaluator(folder / "reading.yaml").score(subject_of(model)).rows
    assert (row.status, row.value) == ("collapsed", None)
    assert max(row.nonfinite, row.tied) == 24


def test_a_python_scorer_beside_its_yaml(llama: EditableModel, folder: Path) -> None:
    (folder / "scorer.py").write_text(SCORER)
    (folder / "letters.yaml").write_text(SCORED)
    with_scorer = evaluator(folder / "letters.yaml", trust_task_code=True)
    rows = named(with_scorer.score(subject_of(llama)).rows)
    letters = rows["letters", "know_letters"]
    assert 0.9 < letters.value < 1
    assert letters.stderr > 0
    assert next(iter(rows)) == ("letters", "know_letters")
    before = with_scorer.identity()
    (folder / "scorer.py").write_text(SCORER.replace("set(results[0])", "set(results[0][1:])"))
    assert evaluator(folder / "letters.yaml", trust_task_code=True).identity() != before


def test_identity_follows_content_and_not_place(folder: Path, tmp_path: Path) -> None:
    first = canonical_json(evaluator(folder).identity())
    assert harness_version() in first
    assert str(tmp_path) not in first
    shutil.copytree(folder, tmp_path / "elsewhere" / "know")
    assert canonical_json(evaluator(tmp_path / "elsewhere" / "know").identity()) == first
    assert canonical_json(evaluator(folder, limit=3).identity()) != first
    for name in ("choice.jsonl", "data/write.jsonl", "_base.yaml", "choice.yaml"):
        changed = tmp_path / name.replace("/", "-") / "know"
        shutil.copytree(folder, changed)
        with (changed / name).open("a") as file:
            file.write("\n")
        assert canonical_json(evaluator(changed).identity()) != first


def test_changed_data_is_read_anew(llama: EditableModel, folder: Path) -> None:
    before = named(evaluator(folder).score(subject_of(llama)).rows)["acc", "know_choice"].value
    write_jsonl(folder / "choice.jsonl", [{**row, "label": 1 - row["label"]} for row in choice_rows()])
    after = named(evaluator(folder).score(subject_of(llama)).rows)["acc", "know_choice"].value
    assert after == pytest.approx(1 - before)


def test_wrong_tasks_are_refused(llama: EditableModel, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="task 'factwrld'"):
        evaluator("factwrld")
    with pytest.raises(InputError, match="not found"):
        evaluator(tmp_path / "nowhere.yaml")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no task YAML"):
        evaluator(tmp_path / "empty")
    with pytest.raises(InputError, match="same name"):
        evaluator(folder, folder)
    (tmp_path / "twin.yaml").write_text(absolute_choice(folder).read_text())
    with pytest.raises(InputError, match="two tasks are called 'know_choice'"):
        evaluator(folder, tmp_path / "twin.yaml").load()
    (folder / "choice.jsonl").unlink()
    with pytest.raises(InputError, match="data file not found") as raised:
        evaluator(folder)
    assert raised.value.where == str((folder / "choice.jsonl").resolve())
    (folder / "choice.yaml").write_text("task: [unclosed\n")
    with pytest.raises(InputError, match="not valid YAML"):
        evaluator(folder)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("metric: acc,", "metric: accuracy_of_sorts,", "no metric 'accuracy_of_sorts'"),
        ("doc_to_text: prompt", "doc_to_txt: prompt", "doc_to_txt"),
        ("test_split: test", "test_split: null", "test"),
        ("doc_to_text: prompt", 'doc_to_text: "{{prompt_x.y}}"', "prompt_x"),
    ],
)
def test_a_task_the_harness_refuses_is_named(
    llama: EditableModel, folder: Path, old: str, new: str, fault: str
) -> None:
    (folder / "choice.yaml").write_text(CHOICE.replace(old, new))
    with pytest.raises(InputError, match=fault) as raised:
        evaluator(folder).score(subject_of(llama))
    assert raised.value.where == str(folder / "choice.yaml")


def test_generation_longer_than_the_model_is_refused(llama: EditableModel, folder: Path) -> None:
    (folder / "_base.yaml").write_text(WRITE_BASE.replace("max_gen_toks: 5", "max_gen_toks: 64"))
    with pytest.raises(InputError, match="64 positions"):
        evaluator(folder).score(subject_of(llama))


@pytest.mark.skipif("factworld" not in shipped_suites(), reason="the fact world's tasks are missing")
def test_the_fact_world_s_own_skills() -> None:
    """The shipped model solves what it was trained for, on the shipped held-out items."""
    model = load_model("factworld", dtype="float32", device="cpu")
    rows = named(evaluator("factworld", batch_size=128).score(Subject(model, (), edits=0)).rows)
    assert rows["general_mean", "factworld"].value > 0.9
    assert {row.status for row in rows.values()} == {"ok"}
    assert {row.higher_is_better for (metric, _), row in rows.items() if metric == "acc"} == {True}
