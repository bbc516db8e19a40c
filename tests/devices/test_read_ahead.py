"""Decompositions of a batch's weights run beside its targets on an accelerator, and give the bits they would have."""

import threading
from typing import Any

import pytest
import torch
from ghost import DEVICES, ghost
from ghost_parts import on_ghost
from method_parts import moments, run, values
from tiny_models import CONTEXTS, requests, tiny_model

from sphere_core.costs import Workload, lengths_of, on_accelerator, published_config, shape_of_config, workload_of
from sphere_core.editors.closed_form import loop
from sphere_core.hyperparameters import build_hyperparameters
from sphere_core.methods import resolve_method
from sphere_core.regularizers.read_ahead import ReadAhead
from sphere_core.solver import Placement
from sphere_core.trajectory import run_trajectory

SHORT: dict[str, Any] = {"v_num_grad_steps": 3, "count": 4}


class Watched:
    """A function that notes of which thread it is called, and waits for a nod where it is called beside others."""

    def __init__(self) -> None:
        self.threads: list[int] = []
        self.nod = threading.Event()

    def __call__(self, weight: torch.Tensor) -> torch.Tensor:
        self.threads.append(threading.get_ident())
        if threading.get_ident() != threading.main_thread().ident:
            assert self.nod.wait(60)
        return weight.double() @ weight.double().T


def test_on_a_device_it_is_begun_at_once_and_of_that_tensor_alone() -> None:
    watched = Watched()
    ahead = ReadAhead(watched)
    with ghost():
        weight, other = (torch.randn(3, 5).to(DEVICES[0]) for _ in range(2))
        ahead.begin({"site": weight})
        assert ahead.of("site", other).cpu().equal(other.cpu().double() @ other.cpu().double().T)
        watched.nod.set()
        expected = weight.cpu().double() @ weight.cpu().double().T
        assert ahead.of("site", weight).cpu().equal(expected)
        assert len(watched.threads) == 2
        assert len(set(watched.threads)) == 2
        # The next batch begins with other weights.
        ahead.begin({})
        assert ahead.of("site", weight).cpu().equal(expected)
        assert len(watched.threads) == 3


def test_on_the_host_it_is_computed_when_it_is_needed() -> None:
    watched = Watched()
    ahead = ReadAhead(watched)
    weight = torch.randn(3, 5)
    ahead.begin({"site": weight})
    assert watched.threads == []
    ahead.of("site", weight)
    assert watched.threads == [threading.get_ident()]


def test_what_fails_beside_fails_where_it_is_read() -> None:
    def fail(weight: torch.Tensor) -> None:
        raise ValueError("no such decomposition")

    ahead = ReadAhead(fail)
    with ghost():
        weight = torch.randn(3, 5).to(DEVICES[0])
        ahead.begin({"site": weight})
        with pytest.raises(ValueError, match="no such decomposition"):
            ahead.of("site", weight)


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("alphaedit+sphere", {}),
        ("memit+revive", {"revive_weight": "current"}),
        ("nse+sphere", {}),
        ("memit+rect+sphere", {}),
    ],
)
def test_a_batch_decomposes_before_its_targets_with_the_same_bits(
    method: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = 0
    begin = ReadAhead.begin

    def counted(ahead: ReadAhead[Any], weights: Any) -> None:
        nonlocal begun
        begin(ahead, weights)
        begun += len(ahead._begun)

    monkeypatch.setattr(ReadAhead, "begin", counted)
    with ghost():
        beside = run(method, on_ghost(tiny_model("llama")), **SHORT, **changes)[-1].weights
    assert begun == 2 * 2
    monkeypatch.setattr(ReadAhead, "begin", lambda ahead, weights: None)
    with ghost():
        inline = run(method, on_ghost(tiny_model("llama")), **SHORT, **changes)[-1].weights
        assert all(weight.cpu().equal(inline[name].cpu()) for name, weight in beside.items())


def test_without_room_beside_the_targets_nothing_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReadAhead, "begin", lambda ahead, weights: pytest.fail("begun"))
    method, hyperparameters = (
        resolve_method("memit+sphere"),
        build_hyperparameters(values("memit+sphere"), where="test"),
    )
    model = tiny_model("llama")
    built = method.build(hyperparameters, moments(model), Placement(reads_ahead=False))
    chain = run_trajectory("t", built, model, requests()[:2], batch_size=2, contexts=CONTEXTS, resume=None)
    assert len(list(chain)) == 1


def placed(dataset: str, edits: int, gigabytes: float, **changes: Any) -> Workload:
    config, method = published_config("meta-llama/Meta-Llama-3-8B-Instruct"), resolve_method("alphaedit+sphere")
    assert config is not None
    preset = method.from_preset("llama3-8b", changes)
    work = workload_of(
        method,
        preset,
        dtype_bytes=2,
        batch=100,
        edits=edits,
        contexts=6,
        lengths=lengths_of(dataset),
        on_accelerator=True,
    )
    return on_accelerator(shape_of_config(config, where="test"), work, preset.layers, gigabytes * 1e9)


@pytest.mark.parametrize(
    ("dataset", "edits", "gigabytes", "per_pass", "ahead"),
    [
        ("counterfact", 3_000, 80, 100, True),
        # With a long history memory holds 89 requests (70 of longer texts), and 81 (63) beside a decomposition.
        ("counterfact", 15_000, 80, 50, True),
        ("zsre", 15_000, 80, 50, True),
        # 51 fit, and 42 beside a decomposition; 10, and 1; none.
        ("counterfact", 3_000, 48, 50, False),
        ("counterfact", 3_000, 24, 10, False),
        ("counterfact", 3_000, 17, 1, False),
    ],
)
def test_passes_are_equal_and_decompositions_cost_no_pass_more(
    dataset: str, edits: int, gigabytes: int, per_pass: int, ahead: bool
) -> None:
    work = placed(dataset, edits, gigabytes)
    assert (work.requests_per_pass, work.reads_ahead) == (per_pass, ahead)


def test_a_limit_of_the_hyperparameters_is_kept() -> None:
    assert placed("counterfact", 3_000, 80, requests_per_pass=7).requests_per_pass == 7
    assert placed("counterfact", 3_000, 80, requests_per_pass=60).requests_per_pass == 50


def test_the_loop_asks_before_it_searches_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    begin, search = ReadAhead.begin, loop.optimise_targets
    monkeypatch.setattr(ReadAhead, "begin", lambda ahead, weights: (order.append("begin"), begin(ahead, weights))[1])
    monkeypatch.setattr(loop, "optimise_targets", lambda *given: (order.append("targets"), search(*given))[1])
    run("alphaedit+sphere", tiny_model("llama"), **SHORT)
    assert order == ["begin", "targets"] * 2
