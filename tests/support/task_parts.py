"""Task folders that a tiny model knows the answers of, for the tests of general ability."""

import json
from pathlib import Path

from eval_parts import by_name, golden_requests

from evaluators.base import Score
from evaluators.general.evaluator import GeneralAbility, GeneralAbilitySettings

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


def know_folder(place: Path) -> Path:
    """Write a suite of one multiple-choice and one generation task, with data files named relative to the YAML."""
    suite = place / "know"
    suite.mkdir(parents=True)
    (suite / "choice.yaml").write_text(CHOICE)
    (suite / "write.yaml").write_text(WRITE)
    (suite / "_base.yaml").write_text(WRITE_BASE)
    (suite / "all.yaml").write_text("group: everything\ntask: [know_choice, know_write]\n")
    write_jsonl(suite / "choice.jsonl", choice_rows())
    answers = [{"prompt": r.question, "answer": r.target_true} for r in golden_requests()]
    answers[0]["answer"] = "something else"
    write_jsonl(suite / "data" / "write.jsonl", answers)
    return suite


def evaluator(*tasks: Path | str, **settings: int | bool) -> GeneralAbility:
    return GeneralAbility(GeneralAbilitySettings(tasks=tuple(str(task) for task in tasks), **settings))


def named(rows: list[Score]) -> dict[tuple[str, str | None], Score]:
    return {(metric, task): row for (metric, _, task), row in by_name(rows).items()}
