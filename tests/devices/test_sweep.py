"""A whole sweep whose models live on a ghost accelerator: moments, null spaces, trajectories, checkpoints, scores."""

import json
from pathlib import Path

import pytest
import torch
from ghost import DEVICES, GhostTensor, ghost
from ghost_parts import on_ghost
from local_runs import Crash, run
from sweep_files import tiny, write_sweep
from tiny_models import TEXTS, tiny_model

from sphere_core.foundation.storage import Storage
from sphere_core.moments.build import Pass, build_second_moments
from sphere_core.moments.null_space import null_space
from sphere_core.moments.packing import Amount, Packing
from sphere_core.numerics.placement import decomposition_device
from workflows.driver.local_executor import LocalExecutor
from workflows.replicas.tasks import ReplicaProgress
from workflows.store.row_reader import read_rows
from workflows.sweeps.expand import Sweep, load_sweep


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    methods = [{"name": "alphaedit+sphere", "hyperparameters": {"v_num_grad_steps": 8}}]
    settings = tiny(seeds=[0], methods=methods, keep_keys=True)
    return load_sweep(write_sweep(tmp_path_factory.mktemp("spec"), settings))


def scores(root: Path, sweep: Sweep) -> dict[tuple[object, ...], float | None]:
    rows = read_rows(Storage(root), sweep.plan).to_pylist()
    names = ("trajectory_id", "edits", "evaluator", "metric", "protocol", "site")
    return {tuple(row[name] for name in names): row["value"] for row in rows}


@pytest.mark.slow
def test_a_sweep_gives_the_scores_of_the_cpu_also_interrupted(sweep: Sweep, tmp_path: Path) -> None:
    run(sweep, tmp_path / "cpu")
    expected = scores(tmp_path / "cpu", sweep)

    def crash(progress: ReplicaProgress) -> None:
        if (progress.task or "").startswith("trajectory-") and progress.edits == 4:
            raise Crash

    def executor() -> LocalExecutor:
        return LocalExecutor(str(tmp_path / "ghost"), threads=1, device=str(DEVICES[0]))

    with ghost() as counts:
        with pytest.raises(Crash):
            run(sweep, tmp_path / "ghost", executor=executor(), on_progress=crash)
        assert run(sweep, tmp_path / "ghost", executor=executor()).complete
        assert counts.kernels > 10_000
    found = scores(tmp_path / "ghost", sweep)
    assert found.keys() == expected.keys()
    wrong = {name: (value, expected[name]) for name, value in found.items() if not close(value, expected[name])}
    assert wrong == {}
    attempts = [json.loads(path.read_text())["from"] for path in (tmp_path / "ghost").rglob("attempts/*.json")]
    assert 4 in attempts


def close(one: float | None, other: float | None) -> bool:
    return one == other or (one is not None and other is not None and one == pytest.approx(other, rel=1e-5, abs=1e-9))


@pytest.mark.parametrize("memory", [2**34, 72 * 72 * 8 * 4])
def test_sums_of_second_moments_are_made_beside_the_model_or_on_the_host(memory: int) -> None:
    work = Pass((0, 2), Packing(12, forward_tokens=48), Amount(texts=len(TEXTS)))
    expected = build_second_moments(tiny_model("llama"), work, TEXTS, provenance={})
    with ghost(memory=memory) as counts:
        found = build_second_moments(on_ghost(tiny_model("llama")), work, TEXTS, provenance={})
        sums = 2 * 8 * 72 * 72
        if memory == 2**34:
            assert counts.to_host <= sums + 1024
            assert counts.to_device <= sums + 4 * 2**10 + sum(
                4 * parameter.numel() for parameter in tiny_model("llama").network.parameters()
            )
        for layer, moment in found.by_layer.items():
            assert moment.device.type == "cpu"
            assert torch.equal(moment, expected.by_layer[layer])


def test_a_null_space_is_found_on_a_device_that_has_room() -> None:
    generator = torch.Generator().manual_seed(5)
    samples = torch.randn(24, 12, generator=generator, dtype=torch.float64)
    moment = samples @ samples.T
    expected = null_space(moment, threshold=1e-9, share=None)
    with ghost() as counts:
        found = null_space(moment, threshold=1e-9, share=None, device=DEVICES[0])
        assert counts.by_kernel["_linalg_eigh"] == 1
        assert not isinstance(found.basis, GhostTensor)
        assert (found.complement, found.dimension) == (expected.complement, expected.dimension)
        assert torch.equal(found.basis, expected.basis)
    with ghost(memory=80 * 10**9):
        assert decomposition_device(DEVICES[0], 14336) == DEVICES[0]
    with ghost(memory=24 * 10**9):
        assert decomposition_device(DEVICES[0], 14336).type == "cpu"
        assert decomposition_device(DEVICES[0], 6400) == DEVICES[0]
    assert decomposition_device(torch.device("cpu"), 64).type == "cpu"
