"""While a task is scored the process or the storage fails, which is no failure of the task; or the task does."""

from pathlib import Path

import pytest
from eval_parts import golden_requests, tiny_llama
from process_errors import OF_THE_PROCESS, OF_THE_TASK, Failing
from task_parts import CHOICE, choice_rows, evaluator, know_folder, named, write_jsonl

from evaluators.base import Subject
from evaluators.general import task_index
from sphere_core.foundation.storage_faults import StorageError
from sphere_core.models import EditableModel


class Kept:
    """Results in memory, behind a storage that gives out at one of its two verbs."""

    def __init__(self, gives_out: str = "") -> None:
        self.files: dict[str, bytes] = {}
        self.gives_out = gives_out

    def read(self, key: str) -> bytes | None:
        if self.gives_out == "read":
            raise StorageError("s3://bucket/scores: TimeoutError: gone")
        return self.files.get(key)

    def write(self, key: str, data: bytes) -> None:
        if self.gives_out == "write":
            raise StorageError("s3://bucket/scores: OSError: No space left on device")
        self.files[key] = data


@pytest.fixture(scope="module")
def llama() -> EditableModel:
    """Shared by tests that leave its weights alone."""
    return tiny_llama()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A suite of two multiple-choice tasks (one forward each) and one that generates."""
    suite = know_folder(tmp_path)
    (suite / "again.yaml").write_text(CHOICE.replace("know_choice", "know_again").replace("choice.j", "again.j"))
    write_jsonl(suite / "again.jsonl", choice_rows()[:8])
    return suite


def asked(model: EditableModel, kept: Kept) -> Subject:
    return Subject(model, golden_requests(), edits=24, kept=kept)


@pytest.mark.parametrize("kind", OF_THE_PROCESS)
def test_a_failure_of_the_process_passes_through_the_evaluator(
    llama: EditableModel, folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    scorer, kept = evaluator(folder), Kept()
    whole = evaluator(folder).score(asked(llama, Kept()))
    failing = Failing(OF_THE_PROCESS[kind], after=1).install(monkeypatch)
    with pytest.raises(type(OF_THE_PROCESS[kind]())):
        scorer.score(asked(llama, kept))
    assert failing.raised == 1
    # What was answered before is kept, nothing of the task at work is; asked again, all is as if nothing had happened.
    assert len(kept.files) == 1
    again = scorer.score(asked(llama, kept))
    assert (again.rows, again.failures) == (whole.rows, ())
    assert again.tables["documents"].equals(whole.tables["documents"])


@pytest.mark.parametrize("verb", ["read", "write"])
def test_a_storage_failure_passes_through_the_evaluator(llama: EditableModel, folder: Path, verb: str) -> None:
    with pytest.raises(StorageError, match="s3://bucket/scores"):
        evaluator(folder).score(asked(llama, Kept(verb)))


@pytest.mark.parametrize("kind", OF_THE_TASK)
def test_any_other_error_costs_the_task_alone(
    llama: EditableModel, folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    Failing(OF_THE_TASK[kind]).install(monkeypatch)
    scored = evaluator(folder).score(asked(llama, Kept()))
    (failure,) = scored.failures
    assert failure.error == type(OF_THE_TASK[kind]()).__name__
    tasks = {"know_again", "know_choice", "know_write"}
    rows = {row.task: row.status for row in scored.rows if row.task in tasks}
    assert rows == {task: "failed" if task == failure.part else "ok" for task in tasks}
    assert named(scored.rows)["general_mean", "know"].status == "failed"


def test_memory_that_runs_out_over_a_task_file_does_not_leave_it_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhaust(*_, **__):
        raise MemoryError

    monkeypatch.setattr("lm_eval.tasks._yaml_loader.load_yaml", exhaust)
    with pytest.raises(MemoryError):
        task_index.TaskFolder(folder).find("know_choice")
