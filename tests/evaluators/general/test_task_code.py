"""Python that task files bring along: refused unless it is trusted, never run by a plan, part of identities."""

from pathlib import Path

import pytest
from eval_parts import tiny_llama
from sweep_files import tiny, write_sweep
from task_parts import CHOICE, SCORED, SCORER, evaluator, know_folder
from typer.testing import CliRunner

from evaluators.base import Subject
from evaluators.general.settings import GeneralAbilitySettings, TaskEntry
from evaluators.general.suites import SuiteResolver
from evaluators.general.task_code import is_released, require_trusted
from evaluators.general.task_index import harness_folder
from evaluators.registry import describe_evaluator
from sphere_core.foundation.errors import InputError
from workflows.commands import plan as plan_command
from workflows.sweeps.expand import load_sweep

MARK = 'from pathlib import Path\nPath(__file__).with_name("ran").write_text("")\n'
# Each way to name a function, as a file `coded.yaml` or by others beside it.
WAYS = {
    "a scorer": {"coded.yaml": SCORED},
    "a filter of documents": {"coded.yaml": CHOICE + "process_docs: !function scorer.shares\n"},
    "a whole tag": {"coded.yaml": SCORED.replace("!function", "!<!function>")},
    "a quoted name": {"coded.yaml": SCORED.replace("scorer.shares", '"scorer.shares"')},
    "a metric": {"coded.yaml": CHOICE.replace("metric: acc_norm", "metric: !function scorer.shares")},
    "a class": {"coded.yaml": "task: coded\nclass: !function scorer.shares\n"},
    "an include": {"coded.yaml": "include: _code\ntask: coded\n", "_code": CHOICE + "x: !function s.f\n"},
    "a group's task": {"coded.yaml": "group: coded\ntask: [{task: inner, process_docs: !function scorer.shares}]\n"},
    "code from elsewhere": {"coded.yaml": SCORED.replace("scorer.shares", "os.system")},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return know_folder(tmp_path)


def write_way(folder: Path, way: str) -> Path:
    for name, text in WAYS[way].items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    (folder / "scorer.py").write_text(MARK + SCORER)
    return folder / "coded.yaml"


def settings_of(*tasks: Path | str, **values: object) -> GeneralAbilitySettings:
    return GeneralAbilitySettings.model_validate({"tasks": [str(task) for task in tasks], **values})


@pytest.mark.parametrize("way", WAYS)
def test_code_is_refused_unless_it_is_trusted(folder: Path, way: str) -> None:
    file = write_way(folder, way)
    with pytest.raises(InputError, match="names Python code") as caught:
        describe_evaluator(settings_of(file))
    assert "--trust-task-code" in str(caught.value.remedy)
    with pytest.raises(InputError, match="names Python code"):
        evaluator(file)
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("named", ["know_letters", "everything"])
def test_a_name_found_in_a_folder_is_no_way_around(folder: Path, named: str) -> None:
    write_way(folder, "a scorer")
    (folder / "all.yaml").write_text("group: everything\ntask: [know_choice, know_letters]\n")
    with pytest.raises(InputError, match="names Python code"):
        describe_evaluator(settings_of(named, include_path=[str(folder)]))
    assert not (folder / "ran").exists()


def test_trusted_code_is_in_the_identity_and_is_run_where_it_is_asked_for(folder: Path) -> None:
    file = write_way(folder, "a scorer")
    trusted = settings_of(file, trust_task_code=True)
    described = describe_evaluator(trusted)
    assert described.identity["trusts_task_code"] is True
    assert not (folder / "ran").exists()
    assert describe_evaluator(trusted, run_code=True).identity == described.identity
    assert (folder / "ran").exists()
    # Where no task names code, trust changes no identity: scores stay the same ones.
    plain = folder / "choice.yaml"
    assert describe_evaluator(settings_of(plain, trust_task_code=True)) == describe_evaluator(settings_of(plain))


@pytest.mark.parametrize(
    ("text", "code", "fault"),
    [
        (SCORED.replace("scorer.shares", "scorer.sharess"), SCORER, "has no 'sharess'"),
        (SCORED, "def shares(:\n", "not valid Python"),
        (SCORED.replace("scorer.shares", "gone.shares"), SCORER, "in no file beside the task"),
        (SCORED.replace("scorer.shares", "os.system"), SCORER, "in no file beside the task"),
        (SCORED.replace("scorer.shares", "..etc.evil"), SCORER, "not the name of a function"),
        (SCORED.replace("scorer.shares", "scorer"), SCORER, "not the name of a function"),
    ],
)
def test_faulty_code_is_found_without_running_it(folder: Path, text: str, code: str, fault: str) -> None:
    (folder / "coded.yaml").write_text(text)
    (folder / "scorer.py").write_text(MARK + code)
    with pytest.raises(InputError, match=fault):
        describe_evaluator(settings_of(folder / "coded.yaml", trust_task_code=True))
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("code", ["raise KeyError('no')", "import sys; sys.exit(3)", "from nowhere import nothing"])
def test_code_that_raises_at_import_is_an_error_of_the_task(folder: Path, code: str) -> None:
    (folder / "coded.yaml").write_text(SCORED)
    (folder / "scorer.py").write_text(f"{code}\n{SCORER}")
    with pytest.raises(InputError, match="cannot be imported"):
        describe_evaluator(settings_of(folder / "coded.yaml", trust_task_code=True), run_code=True)


def test_a_metric_that_would_be_a_script_is_not_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = folder / "evil"
    script.mkdir()
    (script / "evil.py").write_text(MARK)
    monkeypatch.chdir(folder)
    for metric in (f"metric: {script}, hf_evaluate: true", f"metric: {script}", "metric: evil", "metric: accuracyy"):
        (folder / "scripted.yaml").write_text(CHOICE.replace("metric: acc_norm", metric))
        with pytest.raises(InputError, match="knows no metric"):
            describe_evaluator(settings_of(folder / "scripted.yaml"))
    assert not (script / "ran").exists()


def test_prompts_of_another_file_are_refused(folder: Path) -> None:
    (folder / "prompts.yaml").write_text("prompts: {p: {doc_to_text: x, doc_to_target: y}}\n")
    (folder / "asked.yaml").write_text(CHOICE + f"use_prompt: {folder}/prompts.yaml:p\n")
    with pytest.raises(InputError, match="use_prompt"):
        describe_evaluator(settings_of(folder / "asked.yaml"))


def test_released_tasks_are_run_as_they_are() -> None:
    coded = next(path for path in sorted((harness_folder() / "hellaswag").glob("*.yaml")))
    assert is_released(coded)
    assert not require_trusted([coded], trusted=False)
    (member,) = SuiteResolver(corpus=__file__).suite(TaskEntry(task="perplexity")).members
    assert not require_trusted(member.files(), trusted=False)


def test_a_template_that_breaks_out_is_refused_by_the_plan(folder: Path) -> None:
    marker = folder / "PWNED"
    text = f"{{{{ cycler.__init__.__globals__.os.popen('touch {marker}').read() }}}}"
    (folder / "own.yaml").write_text(CHOICE.replace("doc_to_text: prompt", f'doc_to_text: "{text}"'))
    with pytest.raises(InputError, match="SecurityError"):
        describe_evaluator(settings_of(folder / "own.yaml"))
    assert not marker.exists()


def test_a_template_that_is_forbidden_on_one_document_costs_its_task(folder: Path) -> None:
    text = "{{ prompt.__class__ if label == 0 else prompt }}"
    (folder / "own.yaml").write_text(CHOICE.replace("doc_to_text: prompt", f'doc_to_text: "{text}"'))
    lines = (folder / "choice.jsonl").read_text().splitlines()
    # The plan sees the first document alone.
    (folder / "choice.jsonl").write_text("\n".join(sorted(lines, key=lambda line: '"label": 0' in line)) + "\n")
    scored = evaluator(folder / "own.yaml").score(Subject(tiny_llama(), (), edits=0))
    assert [failure.error for failure in scored.failures] == ["SecurityError"]


def test_a_sweep_file_trusts_nothing_and_a_plan_runs_nothing(folder: Path, tmp_path: Path) -> None:
    file = write_way(folder, "a scorer")
    general = {"tasks": [str(file)]}
    trusting = write_sweep(tmp_path, tiny(evaluators={"general": {**general, "trust_task_code": True}}))
    with pytest.raises(InputError, match="cannot trust code"):
        load_sweep(trusting, trust_task_code=True)
    path = write_sweep(tmp_path, tiny(evaluators={"general": general}))
    refused = CliRunner().invoke(plan_command.app, [str(path), "--root", str(tmp_path / "root")])
    assert isinstance(refused.exception, InputError)
    shown = CliRunner().invoke(
        plan_command.app, [str(path), "--root", str(tmp_path / "root"), "--trust-task-code", "--json"]
    )
    assert shown.exit_code == 0
    assert not (folder / "ran").exists()
    # A run plans the same: the ids are the same, and its workers are given the same trust.
    swept = load_sweep(path, trust_task_code=True, run_code=True)
    assert swept.plan == load_sweep(path, trust_task_code=True).plan
    assert swept.evaluators["general"]["trust_task_code"] is True
    assert (folder / "ran").exists()
