"""Seconds by stage: exclusive, complete, and on an accelerator without a wait inside a batch."""

import threading

import torch
from ghost import ghost
from ghost_parts import on_ghost
from hypothesis import given
from hypothesis import strategies as st
from method_parts import editor
from tiny_models import CONTEXTS, requests, tiny_model

from sphere_core.models import stage_clock
from sphere_core.models.stage_clock import OTHER, StageClock
from sphere_core.trajectory import run_trajectory

# A tree of stages: a name, and what happens inside, each step one tick or a stage of its own.
TREES = st.recursive(st.just(None), lambda inner: st.tuples(st.sampled_from("abc"), st.lists(inner, max_size=4)))


class Ticks:
    """A clock that moves only when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


def walk(tree, clock: StageClock, ticks: Ticks, stage: str, expected: dict[str, float]) -> None:
    if tree is None:
        ticks.now += 1
        expected[stage] = expected.get(stage, 0) + 1
        return
    name, inside = tree
    with clock.stage(name):
        for part in inside:
            walk(part, clock, ticks, name, expected)


@given(st.lists(TREES, max_size=6), st.lists(TREES, max_size=3))
def test_every_second_is_charged_to_the_innermost_stage_alone(first, second) -> None:
    ticks, real = Ticks(), stage_clock.time
    stage_clock.time = ticks
    try:
        clock = StageClock(torch.device("cpu"))
        for trees in (first, second):
            expected: dict[str, float] = {}
            for tree in trees:
                walk(tree, clock, ticks, OTHER, expected)
            assert {stage: seconds for stage, seconds in clock.lap().items() if seconds} == expected
    finally:
        stage_clock.time = real


def test_a_stage_that_raises_is_left() -> None:
    clock = StageClock(torch.device("cpu"))
    try:
        with clock.stage("solve"):
            raise ArithmeticError
    except ArithmeticError:
        pass
    clock.lap()
    assert clock.lap().keys() == {OTHER}


def stages_on_ghost(method: str) -> tuple[dict[str, float], int]:
    """Return kernels by stage of two batches, and all of the edit loop as the device counted them.

    What is decomposed beside the targets runs on a stream of its own, and is no stage.
    """
    with ghost() as counts:
        model = on_ghost(tiny_model("llama", layers=4))
        built = editor(method, model, v_num_grad_steps=3)
        counts.clear()
        model.clock.lap()
        list(run_trajectory("t", built, model, requests()[:4], batch_size=2, contexts=CONTEXTS, resume=None))
        kernels, waits = counts.by_thread[threading.get_ident()], counts.waits
        found = model.clock.lap()
        # The only wait of the clock is that for the end of the lap.
        assert counts.waits == waits + 1
        return dict(found), kernels


def test_on_an_accelerator_every_kernel_of_a_trajectory_has_its_stage() -> None:
    stages, kernels = stages_on_ghost("alphaedit+sphere")
    assert sum(stages.values()) == kernels
    assert all(stages[name] for name in ("targets", "keys", "solve", "regularizer", "write", "history"))
    assert max(stages, key=lambda stage: stages[stage]) == "targets"
    assert stages[OTHER] < 0.02 * kernels


def test_fine_tuning_and_one_edit_at_a_time_name_their_stages_too() -> None:
    for method, largest in (("ultraedit", "gradients"), ("r_rome", "targets"), ("nse", "targets")):
        stages, kernels = stages_on_ghost(method)
        assert sum(stages.values()) == kernels
        assert max(stages, key=lambda stage: stages[stage]) == largest
        assert stages["write"]
        assert stages["solve"]
