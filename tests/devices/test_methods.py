"""Every row of the method table on a ghost accelerator: the numbers of the CPU, whole, split, resumed, or short of
memory."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ghost import DEVICES, ghost
from ghost_parts import on_ghost, over_two_ghosts
from method_parts import moments, run, values
from tiny_models import CONTEXTS, requests, tiny_model

from sphere_core.checkpoints import Checkpoint, read_checkpoint, write_checkpoint
from sphere_core.costs import place
from sphere_core.foundation.storage import Storage
from sphere_core.hyperparameters import build_hyperparameters
from sphere_core.locate.batch import locate
from sphere_core.locate.targets import TargetSettings, optimise_targets
from sphere_core.methods import EDITORS, example_names, resolve_method
from sphere_core.trajectory import run_trajectory

COMBINED = ["memit+rect+sphere", "memit+prune+sphere", "memit_seq+rect+error_feedback", "alphaedit+nas+sphere+gate"]
# Those of mixtures have their own tests (sphere_core/editors/test_moeedit.py).
DENSE = [name for name, row in EDITORS.items() if row.on_experts != "only"]
ROWS = [*DENSE, *(name for name in example_names() if name.startswith(("memit+", "alphaedit+"))), *COMBINED]
# Two batches of two, few steps: what is looked at is where things run.
SHORT: dict[str, Any] = {"v_num_grad_steps": 4, "count": 4}


def short(method: str) -> dict[str, Any]:
    memory = {"num_steps": 2, "memory_background": 1}
    fewer = {"ft": {"num_steps": 3}, "ft_l": {"num_steps": 3}, **dict.fromkeys(("memoir", "grace", "wise"), memory)}
    return {**SHORT, **fewer.get(method.partition("+")[0], {})}


def require_equal(found: Checkpoint, expected: Checkpoint, *, tolerance: float) -> None:
    """Ghosts are computed by the same kernels on the CPU; only the order of some sums may differ."""
    assert found.weights.keys() == expected.weights.keys()
    for name, weight in found.weights.items():
        assert weight.device in DEVICES
        difference = (weight.cpu() - expected.weights[name]).norm() / expected.weights[name].norm()
        assert float(difference) <= tolerance
    if expected.attachment is not None and found.attachment is not None:
        for name, tensor in found.attachment.tensors.items():
            assert tensor.device in DEVICES
            assert torch.allclose(tensor.cpu(), expected.attachment.tensors[name], rtol=1e-4, atol=1e-5), name
    for name, tensor in found.state.tensors.items():
        assert tensor.device in DEVICES, f"{name} is on the host"


@pytest.fixture(scope="module", autouse=True)
def kernels_of_an_accelerator() -> Iterator[None]:
    """The numbers of the CPU by the kernels of an accelerator: a processor writes attention over few positions out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sphere_core.models.grouped_attention._FEW_SCORES", 0)
        yield


@pytest.fixture(scope="module")
def expected_of() -> Callable[[str, str], Checkpoint]:
    """The last checkpoint of a method on a family, on the CPU, made once for all tests that compare with it."""
    return functools.cache(lambda method, family: run(method, tiny_model(family), **short(method))[-1])


@pytest.mark.parametrize("method", ROWS)
def test_a_method_gives_the_numbers_of_the_cpu(method: str, expected_of: Callable[[str, str], Checkpoint]) -> None:
    expected = expected_of(method, "llama")
    with ghost():
        found = run(method, on_ghost(tiny_model("llama")), **short(method))
        assert [one.edits for one in found] == [2, 4] == [2, expected.edits]
        require_equal(found[-1], expected, tolerance=1e-6)


@pytest.mark.parametrize(
    ("method", "family"),
    [
        *((name, "llama") for name in DENSE),
        *((name, "gemma2") for name in ("memit", "r_rome", "nse")),
        # Whole rows through later layers, with calls that were recorded on either device.
        *((name, "qwen3_5_text") for name in ("memit", "grace")),
    ],
)
def test_a_model_split_over_two_devices_is_edited_like_a_whole_one(
    method: str, family: str, expected_of: Callable[[str, str], Checkpoint]
) -> None:
    expected = expected_of(method, family)
    with ghost() as counts:
        found = run(method, over_two_ghosts(tiny_model(family)), **short(method))
        # What writes no request runs no forward, and only a forward crosses from one device to the other. SERAC reads
        # edits with an encoder of its own, and neurons come from a file.
        assert (counts.between > 0) == (
            EDITORS[method.partition("+")[0]].writes_requests and method not in ("serac", "neurons")
        )
        require_equal(found[-1], expected, tolerance=1e-6)


@pytest.mark.parametrize("method", ["memit_seq", "alphaedit+sphere", "evoedit", "lyaplock", "nse+simie", "ultraedit"])
def test_resumed_from_files_it_goes_on_with_the_same_bits(tmp_path: Path, method: str) -> None:
    with ghost():
        whole = run(method, on_ghost(tiny_model("llama")), **short(method))
        write_checkpoint(whole[0], Storage(tmp_path))
        read = read_checkpoint(Storage(tmp_path), 2)
        resumed = run(method, on_ghost(tiny_model("llama")), resume=read, **short(method))
        assert [checkpoint.edits for checkpoint in resumed] == [4]
        for found, expected in zip(
            (resumed[-1].weights, resumed[-1].state.tensors), (whole[-1].weights, whole[-1].state.tensors), strict=True
        ):
            assert found.keys() == expected.keys()
            assert all(tensor.cpu().equal(expected[name].cpu()) for name, tensor in found.items())


@pytest.mark.parametrize(
    "method", ["memit", "memit_seq+rect+error_feedback", "alphaedit+sphere", "evoedit", "lyaplock", "nse", "rome"]
)
def test_without_room_on_the_device_the_solver_runs_on_the_host(
    method: str, expected_of: Callable[[str, str], Checkpoint]
) -> None:
    resolved, expected = resolve_method(method), expected_of(method, "llama")
    hyperparameters = build_hyperparameters(values(method, v_num_grad_steps=SHORT["v_num_grad_steps"]), where="test")
    weights = sum(4 * parameter.numel() for parameter in tiny_model("llama").network.parameters())
    with ghost(memory=weights + 20_000) as counts:
        model = on_ghost(tiny_model("llama"))
        second = moments(model)
        stream = requests()[:4]
        placed = place(model, resolved, hyperparameters, stream, batch_size=2, contexts=CONTEXTS, moments=second)
        assert placed.on_host == set(hyperparameters.layers)
        assert placed.requests_per_pass == 1
        editor = resolved.build(hyperparameters, second, placed)
        chain = run_trajectory("t", editor, model, stream, batch_size=2, contexts=CONTEXTS, resume=None)
        next(chain)
        counts.clear()
        found = next(chain)
        # Second moments, factors and bases stay where they are; what crosses over is keys, residuals and updates.
        constants = ("sphere_core/solver/", "sphere_core/numerics/placement")
        assert sum(size for line, size in counts.bytes_at.items() if line.startswith(constants)) < 8 * 72 * 8
        for name, weight in found.weights.items():
            # One request a pass: sums of other shapes, which Adam's first steps magnify.
            difference = (weight.cpu() - expected.weights[name]).norm() / expected.weights[name].norm()
            assert float(difference) < 1e-4
        kept = [name for name in found.state.tensors if name.startswith("rule/")]
        assert all(found.state.tensors[name].device.type == "cpu" for name in kept)


@pytest.mark.parametrize("stays", [1, 2, 4])
@pytest.mark.parametrize("most_probable", [0, 2])
def test_requests_that_are_done_keep_what_they_reached(stays: int, most_probable: int) -> None:
    """They stay among the others, unchanged, until most are done; the CPU takes each out at once."""
    settings = TargetSettings(0, 0.3, 14, 0.1, 2.0, 0.0625, 0.0, 100, 0)
    model = tiny_model("llama", layers=4)
    batch = locate(model, requests(), CONTEXTS)
    losses = sorted(optimise_targets(model, batch, replace(settings, v_num_grad_steps=4)).losses)
    stopping = replace(settings, v_stop_loss=losses[4 - stays] + 1e-3, most_probable_steps=most_probable)
    expected = optimise_targets(model, batch, stopping)
    assert len(set(expected.steps)) > 1
    with ghost():
        model = on_ghost(tiny_model("llama", layers=4))
        found = optimise_targets(model, locate(model, requests(), CONTEXTS), stopping)
        assert found.steps == expected.steps
        assert found.losses == pytest.approx(expected.losses, rel=1e-4)
        error = (found.values.cpu() - expected.values).norm() / expected.values.norm()
        assert float(error) < 1e-4
