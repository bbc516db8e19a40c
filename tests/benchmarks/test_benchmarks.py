"""The benchmark at tiny sizes: both forms give the same, and the runner prints, writes and says what was missed."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import GPT2Config
from typer import Typer
from typer.testing import CliRunner

from benchmarks import __main__ as runner
from benchmarks import ability
from benchmarks.ability import forward_seconds
from benchmarks.alone import run_task
from benchmarks.disk import measure as bytes_on_disk
from benchmarks.energy import worst_difference
from benchmarks.keys import gpt2_keys
from benchmarks.long_histories import long_steps, markdown
from benchmarks.models import random_gpt2
from benchmarks.moments import moment_rows
from benchmarks.projections import layer_rows
from benchmarks.pruning import read_out_rows
from benchmarks.rows import Row
from benchmarks.scheduling import Sleeping, sleeping_sweep
from benchmarks.scoring import factworld_scoring
from benchmarks.steps import state_size, step_rows
from benchmarks.targets import gpt2_targets
from benchmarks.timing import measured_apart
from sphere_core.foundation.storage import Storage
from sphere_core.models import load_model
from sphere_core.numerics.linalg import Subspace
from sphere_core.numerics.spectrum import gram_of_rows
from sphere_core.solver import KeyHistory, MomentPrior, NullSpacePrior, Prior, least_squares_update
from workflows.driver.backlog import Backlog
from workflows.replicas.tasks import Done

TINY = GPT2Config(n_embd=32, n_layer=4, n_head=4, vocab_size=300, n_positions=64, initializer_range=0.2)


def test_targets_agree() -> None:
    # 84 rows: four groups of different spans.
    row = gpt2_targets(TINY, 1, count=12, alone=3, repeats=1)
    assert row.difference is not None
    assert row.difference < 1e-4


def test_one_pass_for_five_sites_forwards_a_fifth_of_the_tokens() -> None:
    config = GPT2Config(n_embd=16, n_layer=6, n_head=2, vocab_size=100, n_positions=64)
    tokens, layers, _ = moment_rows(random_gpt2(config), (0, 1, 2, 3, 4), tokens=400, repeats=1)
    assert tokens.measured == 5
    assert tokens.met
    # One pass a site runs 1 + 2 + 3 + 4 + 5 layers, one pass for all runs 5.
    assert layers.measured == 3


def test_scores_agree() -> None:
    row = factworld_scoring(count=6, repeats=1)
    assert row.difference is not None
    assert row.difference < 1e-5


def test_keys_agree() -> None:
    row = gpt2_keys(TINY, (1, 2), count=5, repeats=1)
    assert row.difference is not None
    assert row.difference < 1e-4


@pytest.mark.parametrize("shape", [(24, 72), (72, 24)])
def test_layer_forms_agree(shape: tuple[int, int]) -> None:
    rows = [*layer_rows(*shape, repeats=1), *read_out_rows(120, 150, repeats=1)]
    assert [row.what for row in rows if row.difference is None or row.difference > 1e-9] == []


def test_steps_agree_and_the_state_is_counted() -> None:
    rows = step_rows(350, 24, (100, 200), repeats=1)
    assert [row.what for row in rows if row.difference is None or row.difference > 1e-9] == []
    # Keys in fp32 and their factor in fp64; from half of the width on, what they take from the prior's covariance.
    assert state_size(400, 100, 2).measured == pytest.approx(2 * (400 * 100 * 4 + 100 * 100 * 8) / 1e9)
    assert state_size(400, 200, 2).measured == pytest.approx(2 * 400 * 400 * 8 / 1e9)


def test_energy_agrees_with_the_double_loop() -> None:
    assert worst_difference() < 1e-10


@pytest.mark.parametrize("prior_kind", ["moment", "null space"])
@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_a_factor_carried_along_gives_the_same_update(prior_kind: str, weight: float) -> None:
    generator = torch.Generator().manual_seed(0)
    width = 40
    basis, _ = torch.linalg.qr(torch.randn(width, 12, generator=generator, dtype=torch.float64))
    moment = torch.randn(width, 90, generator=generator)
    prior: Prior = NullSpacePrior(Subspace(basis, complement=True), 0.5)
    if prior_kind == "moment":
        prior = MomentPrior(moment @ moment.T / 90, weight=2.0, ridge=0.0, width=width)
    carried, plain = KeyHistory(), KeyHistory()
    # The fourth batch takes the history over half of the width, the last over the width.
    for count in (3, 7, 1, 20, 15):
        keys, residuals = (torch.randn(size, count, generator=generator) for size in (width, 6))
        found = least_squares_update(prior, carried, keys, residuals, history_weight=weight).dense()
        expected = least_squares_update(prior, plain, keys, residuals, history_weight=weight).dense()
        assert float((found - expected).norm() / expected.norm()) < 1e-11
        carried = carried.append(keys, prior=prior, weight=weight)
        plain = plain.append(keys)
        assert (carried.factor is None) == (carried.reduction is not None)
    assert carried.reduction is not None
    assert plain.gram is not None


@pytest.mark.parametrize("count", [1, 2, 5, 17])
def test_mirrored_gram_matrix(count: int) -> None:
    matrix = torch.randn(count, 9, generator=torch.Generator().manual_seed(count), dtype=torch.float64)
    assert torch.allclose(gram_of_rows(matrix), matrix @ matrix.T, rtol=1e-14, atol=1e-14)


def test_a_process_of_its_own_reports_time_and_memory() -> None:
    found = measured_apart("energy", 64, 96, threads=1)
    assert set(found) == {"seconds", "peak", "beyond"}
    assert 0 < found["peak"] < 4
    with pytest.raises(ValueError, match="unknown task"):
        run_task("walk", 2, 2)


@pytest.mark.parametrize(("seconds", "code", "mark"), [(1.0, 0, "yes"), (3.0, 1, "NO")])
def test_runner(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seconds: float, code: int, mark: str) -> None:
    rows = [Row("a thing", "its setting", seconds, "s", 2.0)]
    monkeypatch.setattr(runner, "BENCHMARKS", {"thing": lambda threads: rows})
    monkeypatch.setattr(runner, "__file__", str(tmp_path / "__main__.py"))
    app = Typer()
    app.command()(runner.main)
    result = CliRunner().invoke(app, ["--threads", "1", "--write", "found"])
    assert result.exit_code == code
    assert "a thing" in result.stdout
    assert mark in result.stdout
    written = json.loads((tmp_path / "results" / "found.json").read_text(encoding="utf-8"))
    assert written["rows"][0]["measured"] == seconds
    assert CliRunner().invoke(app, ["--only", "nothing"]).exit_code == 2


def test_a_ratio_must_be_reached_and_a_cost_kept_to() -> None:
    assert Row("r", "", 5.0, "x", 5.0).met
    assert not Row("r", "", 4.9, "x", 5.0).met
    assert Row("c", "", 4.9, "GB", 5.0).met
    assert not Row("r", "", 9.0, "x", 5.0, difference=1e-3, tolerance=1e-4).met
    assert Row("r", "", 9.0, "x").met is None


def test_bytes_on_disk_are_those_of_real_files(tmp_path: Path) -> None:
    rows = {(row.what, row.setting): row.measured for row in bytes_on_disk(24, 400, 200, tmp_path, model_bytes=10**6)}
    weights, keys = 5 * 24 * 400 * 4, 5 * 400 * 4
    small, large = (
        rows["a checkpoint", "5 sites 24 x 400, 100 edits"],
        rows["a checkpoint", "5 sites 24 x 400, 200 edits"],
    )
    # Beside the tensors stand the headers and the manifest.
    assert 0 < small * 1e9 - (weights + 100 * keys + 5 * 100 * 101 * 4) < 4000
    assert 0 < large * 1e9 - (weights + 5 * 400 * 401 * 4) < 4000
    assert rows["200 edits, a checkpoint every 100", "5 sites 24 x 400"] == pytest.approx(small + large)
    assert list(tmp_path.iterdir()) == []


def test_a_long_history_is_weighed_in_memory_and_in_a_real_checkpoint(tmp_path: Path) -> None:
    short, long = long_steps(24, 400, (100, 300), tmp_path, repeats=1)
    weight = 24 * 400 * 4
    # Keys in fp32 and their factor in fp64, of which the file has the triangle; then the reduction.
    assert short.state == 100 * 400 * 4 + 100 * 100 * 8
    assert 0 < short.checkpoint - (weight + 100 * 400 * 4 + 100 * 101 * 4) < 4000
    assert long.state == 400 * 400 * 8
    assert 0 < long.checkpoint - (weight + 400 * 401 * 4) < 4000
    assert min(short.solve, short.append, long.solve, long.append) > 0
    assert list(tmp_path.iterdir()) == []
    *_, last = markdown(
        [replace(short, edits=20_000, solve=1.5, append=0.25, state=10**9, checkpoint=2 * 10**6)]
    ).split("\n")
    assert last == "| 20,000 | 1.50 | 0.25 | 1.75 | 1,000 | 2 |"


def test_seconds_inside_the_model_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = itertools.count()
    monkeypatch.setattr(ability, "time", SimpleNamespace(perf_counter=lambda: next(readings)))
    model = load_model("factworld", dtype="float32", device="cpu")
    ids = torch.zeros(2, 5, dtype=torch.long)
    with forward_seconds(model) as inside:
        model.network(input_ids=ids)
        model.network.base_model(input_ids=ids)
    # The trunk inside the network reads no clock: two calls from outside, two readings each.
    assert (inside.seconds, next(readings)) == (2, 4)
    model.network(input_ids=ids)
    assert next(readings) == 5


def test_scheduling_takes_a_sleeping_sweep_apart(tmp_path: Path) -> None:
    sweep = sleeping_sweep(tmp_path, 5)
    assert [(plan.moments, plan.evaluations) for plan in sweep.plan.trajectories] == [(None, ())] * 5
    backlog = Backlog.from_files(sweep, Storage(tmp_path / "root"))
    assert backlog.waiting() == {"moments": 0, "trajectory": 5, "score": 0}
    task = backlog.take(["trajectory"], None)
    assert task is not None
    assert Sleeping(str(tmp_path / "root"), threads=1, device="cpu").run(task) == Done(
        sweep.plan.trajectories[0].wanted
    )
