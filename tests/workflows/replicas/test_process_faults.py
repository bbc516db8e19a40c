"""While a task of a sweep is scored the process or the storage fails: what the replica, the run and the files say."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from executors import Interfering
from local_runs import FaultyFiles, disk_full, run
from process_errors import OF_THE_PROCESS, OF_THE_TASK, Failing
from sweep_files import results_of, tiny, write_sweep
from task_parts import CHOICE, know_folder

from evaluators.general.guarded_lm import GuardedHFLM
from sphere_core.foundation.storage import Storage
from sphere_core.foundation.storage_faults import StorageError, persistently
from sphere_core.moments.sums import MomentSums, SumsFile
from workflows.driver.executor import ExecutorError
from workflows.driver.retry_limits import MAX_EXHAUSTED
from workflows.replicas.replica import ModelReplica
from workflows.replicas.tasks import BrokenReplicaError, ScoreTask, StorageFailed
from workflows.store.layout import checkpoints_folder
from workflows.store.state import derive_state
from workflows.sweeps.expand import Sweep, load_sweep


@pytest.fixture(scope="module")
def sweep_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One short trajectory whose checkpoint is scored by two tasks."""
    folder = tmp_path_factory.mktemp("spec")
    suite = know_folder(folder)
    (suite / "write.yaml").unlink()
    (suite / "all.yaml").unlink()
    (suite / "again.yaml").write_text(CHOICE.replace("know_choice", "know_again"))
    settings = tiny(
        streams=[{"dataset": "factworld", "edits": 4}],
        methods=["memit"],
        seeds=[0],
        evaluators={"general": {"tasks": [str(suite)], "limit": 4}},
    )
    return write_sweep(folder, settings)


@pytest.fixture(scope="module")
def sweep(sweep_file: Path) -> Sweep:
    return load_sweep(sweep_file)


@pytest.fixture(scope="module")
def undisturbed(sweep: Sweep, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("undisturbed")
    assert run(sweep, root).complete
    return root


@pytest.fixture
def faulty() -> Iterator[str]:
    """The root of a storage without faults so far."""
    FaultyFiles.store.clear()
    yield "faulty://root"
    FaultyFiles.fault = staticmethod(lambda _: None)


def test_an_accelerator_that_fails_in_a_task_ends_the_replica(
    sweep: Sweep, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Failing(OF_THE_PROCESS["cublas"]).install(monkeypatch)
    with pytest.raises(ExecutorError, match="CUBLAS_STATUS_EXECUTION_FAILED") as caught:
        run(sweep, tmp_path)
    assert isinstance(caught.value.__cause__, BrokenReplicaError)
    assert derive_state(Storage(tmp_path), sweep.plan).failures == []
    assert not list(tmp_path.glob("rows/general/*"))
    assert run(sweep, tmp_path).complete
    assert results_of(tmp_path) == results_of(undisturbed)


@pytest.mark.parametrize("kind", ["out of memory", "host memory"])
def test_memory_that_runs_out_in_a_task_is_tried_again_in_a_new_replica(
    sweep: Sweep, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    failing = Failing(OF_THE_PROCESS[kind]).install(monkeypatch)
    executor = Interfering(tmp_path)
    result = run(sweep, tmp_path, executor=executor)
    assert (result.complete, result.failures, failing.raised) == (True, (), 1)
    assert len(executor.ended) == 1
    assert results_of(tmp_path) == results_of(undisturbed)


def test_memory_that_runs_out_twice_in_a_task_fails_the_score_with_the_reason(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Failing(OF_THE_PROCESS["out of memory"], times=MAX_EXHAUSTED).install(monkeypatch)
    (failure,) = run(sweep, tmp_path).failures
    assert failure.error == "OutOfMemory"
    assert "Tried to allocate 9 GiB" in failure.message


def test_storage_that_fails_in_a_task_stops_the_run_and_marks_nothing(
    sweep: Sweep, undisturbed: Path, faulty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full when the first answers are to be kept, and has room again for whatever would be written next."""
    faults: list[OSError] = []
    FaultyFiles.fault = staticmethod(lambda call: faults.pop() if call == "write" and faults else None)
    forward = GuardedHFLM._model_call

    def fill(lm: GuardedHFLM, *arguments, **options) -> torch.Tensor:
        faults[:] = [disk_full()]
        monkeypatch.setattr(GuardedHFLM, "_model_call", forward)
        return forward(lm, *arguments, **options)

    monkeypatch.setattr(GuardedHFLM, "_model_call", fill)
    result = run(sweep, faulty)
    assert not result.complete
    assert "/scores/" in str(result.storage_fault)
    assert "No space left" in str(result.storage_fault)
    assert (result.failures, faults) == ((), [])
    stored = Storage(faulty)
    assert derive_state(stored, sweep.plan).failures == []
    assert stored.list("errors") == stored.list("rows") == []
    assert run(sweep, faulty).complete
    assert {name: stored.read_bytes(name) for name in results_of(undisturbed)} == results_of(undisturbed)


def test_any_other_error_in_a_task_of_a_sweep_is_reported_and_the_rest_is_kept(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Failing(OF_THE_TASK["shape"]).install(monkeypatch)
    result = run(sweep, tmp_path)
    assert result.storage_fault is None
    (record,) = [json.loads(file.read_text()) for file in tmp_path.glob("errors/*.json")]
    assert record["error"] == "RuntimeError"
    assert record["task"].endswith(" know_again")
    assert len(list(tmp_path.glob("rows/general/*.parquet"))) == 2


def test_a_replica_says_so_when_a_damaged_checkpoint_cannot_be_removed(
    sweep: Sweep, undisturbed: Path, faulty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_, **__):
        raise disk_full()

    stored, plan = Storage(faulty), sweep.plan.trajectories[0]
    source = Storage(undisturbed)
    for name in source.list(checkpoints_folder(plan.id)):
        stored.write_bytes(name, source.read_bytes(name))
    stored.write_bytes(f"{checkpoints_folder(plan.id)}/000004/weights.safetensors", b"half")
    (evaluation,) = plan.evaluations
    task = ScoreTask(plan, sweep.specs[plan.id], 4, evaluation, sweep.evaluators["general"])
    monkeypatch.setattr(FaultyFiles, "rm", refuse)
    assert isinstance(ModelReplica(faulty, threads=1, device="cpu").run(task), StorageFailed)


def test_memory_that_runs_out_while_reading_is_not_the_storages() -> None:
    calls = []

    def read() -> bytes:
        calls.append(1)
        raise MemoryError

    with pytest.raises(MemoryError):
        persistently(read, where="s3://bucket/weights", faults=Exception, patience=(0.0, 0.0))
    assert len(calls) == 1


def test_sums_that_storage_cannot_give_now_are_not_made_anew(faulty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage(faulty, patience=())
    SumsFile({"model": "tiny"}, {"all": MomentSums({"0": torch.eye(2)}, 3)}).write(storage, "part")
    found = SumsFile.read(storage, "part")
    assert found is not None
    assert found.is_of({"model": "tiny"})
    assert found.parts["all"].count == 3

    def gone(*_, **__):
        raise TimeoutError("gone")

    monkeypatch.setattr(FaultyFiles, "get_file", gone)
    with pytest.raises(StorageError, match="gone"):
        SumsFile.read(storage, "part")
    monkeypatch.undo()
    storage.write_bytes("part", b"half")
    assert SumsFile.read(storage, "part") is None
