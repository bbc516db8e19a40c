"""General ability through the real harness, on small tasks that the tiny model knows."""

import json
import random
import shutil
from pathlib import Path

import lm_eval
import numpy as np
import pytest
import torch
from eval_parts import BREAKERS, by_name, golden_requests, subject_of, tiny_llama
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from evaluators import GeneralAbility, GeneralAbilitySettings, Score, Subject
from evaluators.tasks_catalog import harness_version, shipped_suites
from sphere_core.errors import InputError
from sphere_core.fingerprint import canonical_json
from sphere_core.models import EditableModel, load_model

CHOICE = """\
task: know_choice
dataset_path: json
dataset_kwargs: {data_files: {test: choice.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: prompt
doc_to_choice: choices
doc_to_target: label
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
metadata: {version: 1.0}
"""
WRITE = """\
include: _base.yaml
task: know_write
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
"""
WRITE_BASE = """\
dataset_path: json
dataset_kwargs: {data_files: {test: data/write.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: prompt
doc_to_target: answer
generation_kwargs: {until: ["."], max_gen_toks: 5, do_sample: false}
filter_list:
  - name: none
    filter: [{function: remove_whitespace}, {function: take_first}]
metadata: {version: 1.0}
"""
SAMPLED = WRITE.replace("know_write", "know_sample").replace(
    "metric_list:",
    'generation_kwargs: {until: ["."], max_gen_toks: 3, do_sample: true, temperature: 1.0}\nmetric_list:',
)
SCORER = '''\
def shares(doc, results):
    """Share of the answer's letters that were written, and whether any were."""
    wanted = set(doc["answer"])
    return {"letters": len(set(results[0]) & wanted) / len(wanted), "some": float(results[0] != "")}
'''
SCORED = """\
include: _base.yaml
task: know_letters
process_results: !function scorer.shares
metric_list:
  - {metric: letters, aggregation: mean, higher_is_better: true}
  - {metric: some, aggregation: mean, higher_is_better: true}
"""


HOT = SCORED + "generation_kwargs: {until: ['.'], max_gen_toks: 5, do_sample: true, temperature: 5.0}\n"
READING = """\
task: know_reading
dataset_path: json
dataset_kwargs: {data_files: {test: data/write.jsonl}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{prompt}} {{answer}}."
metric_list:
  - {metric: word_perplexity, aggregation: weighted_perplexity, higher_is_better: false}
metadata: {version: 1.0}
"""


def write_jsonl(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def choice_rows() -> list[dict]:
    rows = []
    for place, request in enumerate(golden_requests()):
        true, new = request.target_true, request.target_new
        # Every third label is wrong, and the right answer stands in both places.
        choices = [true, new] if place % 2 else [new, true]
        right = choices.index(true)
        rows.append({"prompt": request.question, "choices": choices, "label": 1 - right if place % 3 == 0 else right})
    return rows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A suite of one multiple-choice and one generation task, with data files named relative to the YAML."""
    suite = tmp_path / "know"
    suite.mkdir()
    (suite / "choice.yaml").write_text(CHOICE)
    (suite / "write.yaml").write_text(WRITE)
    (suite / "_base.yaml").write_text(WRITE_BASE)
    (suite / "all.yaml").write_text("group: everything\ntask: [know_choice, know_write]\n")
    write_jsonl(suite / "choice.jsonl", choice_rows())
    answers = [{"prompt": r.question, "answer": r.target_true} for r in golden_requests()]
    answers[0]["answer"] = "something else"
    write_jsonl(suite / "data" / "write.jsonl", answers)
    return suite


@pytest.fixture(scope="module")
def llama() -> EditableModel:
    """Shared by tests that leave its weights alone."""
    return tiny_llama()


def evaluator(*tasks: Path | str, **settings: int) -> GeneralAbility:
    return GeneralAbility(GeneralAbilitySettings(tasks=tuple(str(task) for task in tasks), **settings))


def named(rows: list[Score]) -> dict[tuple[str, str | None], Score]:
    return {(metric, task): row for (metric, _, task), row in by_name(rows).items()}


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
    assert ("general_mean", "choice.yaml") not in ours


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
    first = evaluator(folder).score(subject_of(model)).rows
    assert capfd.readouterr().err == ""
    after = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002
    assert after == expected
    assert model.tokenizer.pad_token is None
    assert model.tokenizer.padding_side == "right"
    # Sampling is seeded by the evaluator, so the scores repeat whatever the state outside.
    torch.manual_seed(2)
    assert evaluator(folder).score(subject_of(model)).rows == first


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
    assert (row.stderr, row.n, row.higher_is_better) == (None, 24, False)
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
    with_scorer = evaluator(folder / "letters.yaml")
    rows = named(with_scorer.score(subject_of(llama)).rows)
    letters = rows["letters", "know_letters"]
    assert 0.9 < letters.value < 1
    assert letters.stderr > 0
    assert next(iter(rows)) == ("letters", "know_letters")
    before = with_scorer.identity()
    (folder / "scorer.py").write_text(SCORER.replace("set(results[0])", "set(results[0][1:])"))
    assert evaluator(folder / "letters.yaml").identity() != before


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
    with pytest.raises(InputError, match="task suite 'factwrld'"):
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
