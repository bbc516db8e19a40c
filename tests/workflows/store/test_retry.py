"""Failures are named by the beginning of what failed."""

from pathlib import Path

import pytest
from store_parts import trajectory

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from workflows.store.layout import error_path, task_error_path
from workflows.store.plan import SweepPlan
from workflows.store.records import Failure
from workflows.store.retry import forget_failures
from workflows.store.state import derive_state


@pytest.fixture
def failed(tmp_path: Path) -> tuple[Storage, SweepPlan]:
    storage = Storage(tmp_path)
    plans = tuple(trajectory("memit", seed, id=f"{key}5d9fb47c9b882ba") for seed, key in enumerate(("a1", "a2", "b3")))
    for plan in plans:
        Failure(task=f"trajectory-{plan.id}", error="E", message="m").write(storage, error_path(plan.id))
    Failure(task="general-a1-4", error="E").write(storage, task_error_path("general-a1-4"))
    return storage, SweepPlan(name="s", trajectories=plans, bases=(), recipes=())


def cleared(failed: tuple[Storage, SweepPlan], *names: str) -> list[str]:
    storage, plan = failed
    return forget_failures(storage, plan, derive_state(storage, plan), only=names)


def test_a_unique_beginning_names_a_failure(failed: tuple[Storage, SweepPlan]) -> None:
    first = failed[1].trajectories[0].id
    assert cleared(failed, "a1", first[:8], "gen") == [first, "general-a1-4"]
    assert [state.error is None for state in derive_state(*failed).trajectories] == [True, False, False]


def test_the_beginning_of_several_clears_none(failed: tuple[Storage, SweepPlan]) -> None:
    with pytest.raises(InputError, match="beginning of 2 ids") as raised:
        cleared(failed, "b3", "a")
    assert all(plan.id in raised.value.remedy for plan in failed[1].trajectories[:2])
    with pytest.raises(InputError, match="has not failed"):
        cleared(failed, "b3", "c")
    assert [state.error is None for state in derive_state(*failed).trajectories] == [False] * 3
