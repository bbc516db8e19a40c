"""Geometry in a sweep: the checkpoint before and the sweep's second moments reach the rows, or are missed aloud."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from sweep_files import tiny, write_sweep

from sphere_core.foundation.storage import Storage
from sphere_core.numerics.energy import hyperspherical_energy
from workflows.driver.display import View
from workflows.driver.driver import Driver
from workflows.driver.local_executor import LocalExecutor
from workflows.replicas.replica import ModelReplica
from workflows.replicas.tasks import Damaged, Done, ScoreTask
from workflows.store.layout import checkpoints_folder, moments_path
from workflows.store.row_reader import read_rows
from workflows.sweeps.expand import Sweep, load_sweep


class Quiet:
    """A display that shows nothing."""

    def update(self, view: View) -> None:
        pass


GEOMETRY = tiny(seeds=[0], methods=["memit", "ft"], evaluators={"geometry": {}})


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return load_sweep(write_sweep(tmp_path_factory.mktemp("spec"), GEOMETRY))


@pytest.fixture(scope="module")
def root(sweep: Sweep, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    storage, worker = Storage(folder), LocalExecutor(str(folder), threads=1, device="cpu")
    assert Driver(sweep, worker, storage, Quiet()).run().complete
    return folder


def rows_of(root: Path, sweep: Sweep, method: str, edits: int) -> dict[tuple[str, str, str | None], dict]:
    table = read_rows(Storage(root), sweep.plan).to_pylist()
    chosen = [row for row in table if row["method"] == method and row["edits"] == edits]
    return {(row["metric"], row["protocol"], row["site"]): row for row in chosen}


def last_score(sweep: Sweep) -> ScoreTask:
    plan = sweep.plan.trajectories[0]
    return ScoreTask(plan, sweep.specs[plan.id], 6, plan.evaluations[0], sweep.evaluators["geometry"])


def copied(root: Path, target: Path, sweep: Sweep) -> tuple[Path, Path]:
    """Copy a finished sweep and take the last rows away; return the copy and the folder of the checkpoint before."""
    shutil.copytree(root, target, dirs_exist_ok=True)
    (target / last_score(sweep).rows_path).unlink()
    return target, target / checkpoints_folder(sweep.plan.trajectories[0].id) / "000004"


def test_steps_are_from_the_wanted_checkpoint_before(root: Path, sweep: Sweep) -> None:
    folder = root / checkpoints_folder(sweep.plan.trajectories[0].id)
    before, now = (load_file(folder / edits / "weights.safetensors") for edits in ("000004", "000006"))
    first, last = rows_of(root, sweep, "memit", 4), rows_of(root, sweep, "memit", 6)
    for name, weight in now.items():
        energies = [hyperspherical_energy(w).total for w in (before[name], weight)]
        assert last["he_step", "exact", name]["value"] == pytest.approx(energies[1] / energies[0] - 1, rel=1e-9)
        length = float(torch.linalg.vector_norm(weight.double() - before[name].double()))
        assert last["step_norm", "exact", name]["value"] == pytest.approx(length, rel=1e-12)
        assert first["he_step", "exact", name]["value"] == first["he_drift", "exact", name]["value"]


def test_every_method_is_measured_with_the_sweeps_moments(root: Path, sweep: Sweep) -> None:
    (recipe,) = sweep.plan.recipes
    moments = load_file(root / moments_path(recipe.key))
    for method, plan in zip(("memit", "ft"), sweep.plan.trajectories, strict=True):
        stored = load_file(root / checkpoints_folder(plan.id) / "000006" / "weights.safetensors")
        rows = rows_of(root, sweep, method, 6)
        assert rows
        for name in stored:
            layer = next(int(part) for part in name.split(".") if part.isdigit())
            row = rows["output_change_squared", "moments", name]
            size = rows["delta_norm", "exact", name]["value"]
            largest = float(torch.linalg.eigvalsh(moments[f"layer{layer}"])[-1])
            assert 0 < row["value"] <= largest * size**2
    # The trajectory itself reads none: its id has nothing to do with them.
    assert not sweep.specs[sweep.plan.trajectories[1].id].moments.is_given


def test_weights_that_are_no_longer_kept_fail_their_rows_only(root: Path, sweep: Sweep, tmp_path: Path) -> None:
    whole = rows_of(root, sweep, "memit", 6)
    target, before = copied(root, tmp_path, sweep)
    (before / "weights.safetensors").unlink()
    assert ModelReplica(str(target), threads=1, device="cpu").run(last_score(sweep)) == Done()
    rows = rows_of(target, sweep, "memit", 6)
    assert set(rows) == set(whole)
    for key, row in rows.items():
        if key[0] in ("he_step", "step_norm"):
            assert (row["status"], row["value"]) == ("failed", None)
            assert "after 4 edits, are no longer kept" in row["reason"]
        else:
            assert row == whole[key]


def test_a_lost_checkpoint_before_is_to_be_made_again(root: Path, sweep: Sweep, tmp_path: Path) -> None:
    target, before = copied(root, tmp_path, sweep)
    shutil.rmtree(before)
    outcome = ModelReplica(str(target), threads=1, device="cpu").run(last_score(sweep))
    assert isinstance(outcome, Damaged)
    assert "after 4 edits, cannot be read" in outcome.reason
    assert not (target / last_score(sweep).rows_path).exists()


def test_what_is_read_enters_the_identity(sweep: Sweep, tmp_path: Path) -> None:
    def geometry_of(**changes: object) -> list[str]:
        found = load_sweep(write_sweep(tmp_path, {**GEOMETRY, **changes}))
        return [plan.evaluations[0].id for plan in found.plan.trajectories]

    same = geometry_of()
    assert same == [plan.evaluations[0].id for plan in sweep.plan.trajectories]
    assert not set(same) & set(geometry_of(checkpoint_every=2))
    assert not set(same) & set(geometry_of(moments={"corpus": "factworld", "sentences": 601}))
    blind = {"evaluators": {"geometry": {"previous": False, "moments": False}}}
    assert geometry_of(**blind) == geometry_of(**blind, checkpoint_every=2)
    assert load_sweep(write_sweep(tmp_path, {**GEOMETRY, **blind})).plan.trajectories[1].moments is None
