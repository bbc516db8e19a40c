"""The five questions of docs/questions.md: each command runs, each query is short and answers what was written."""

import re
from pathlib import Path

import pytest
from command_line import sphere
from figure_parts import LAST, METHODS, SEEDS, drawn_sweep, efficacy
from repository import REPOSITORY

import workflows.api as api

PAGE = (REPOSITORY / "docs" / "questions.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    sphere (.*)$", PAGE, re.MULTILINE)
QUERIES = re.findall(r"^```sql\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
TITLES = [title for title, *_ in METHODS]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("questions")
    drawn_sweep(folder)
    return folder


def answer(root: Path, place: int) -> list[dict]:
    return api.open_sweep(root=str(root)).sql(QUERIES[place]).to_pylist()


def test_each_question_has_a_command_and_a_query_of_at_most_ten_lines() -> None:
    assert len(COMMANDS) == len(QUERIES) == len(re.findall(r"^## ", PAGE, re.MULTILINE)) == 5
    assert all(len(text.splitlines()) <= 10 for text in QUERIES)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda text: text.split()[0])
def test_the_commands_run(root: Path, command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    words = [str(root) if word == "runs/quickstart" else word for word in command.split()]
    assert sphere(monkeypatch, *words) == 0


def test_the_queries_answer_the_questions(root: Path) -> None:
    final, curve, ability, drift, lost = (answer(root, place) for place in range(5))
    ends = {title: [efficacy(title, seed, LAST) for seed in SEEDS] for title in TITLES}
    whole = {row["method"]: row["mean"] for row in final if None not in ends[row["method"]]}
    assert whole == {t: pytest.approx(sum(v) / len(v)) for t, v in ends.items() if None not in v}
    assert {row["seeds"] for row in final} == {len(SEEDS)}
    assert len(curve) == 4 * len(TITLES)
    assert {row["unedited"] for row in ability} == {0.9}
    assert all(row["change"] == pytest.approx(row["edited"] - 0.9) for row in ability)
    assert len(drift) == 4 * len(TITLES) * len(SEEDS)
    assert lost
    assert all(row["prompt"].startswith(f"Subject {row['edit']} ") for row in lost)
