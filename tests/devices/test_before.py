"""The table of an accelerator before and now: what was recorded is data, what is counted now asks for less."""

from dataclasses import replace

from ghost_before import LLAMA, before_and_now, counted_now, counted_steps
from ghost_table import recorded
from repository import REPOSITORY

from sphere_core.methods import resolve_method

BEFORE = recorded()
PAGE = REPOSITORY / "docs/benchmarks.md"


def test_what_was_recorded_is_of_methods_that_exist_and_adds_up() -> None:
    tried = [*BEFORE["crashed"], *BEFORE["ran"]]
    assert (len(BEFORE["crashed"]), len(tried), len(set(tried))) == (9, 19, 19)
    for name in tried:
        resolve_method(name)
    batch = BEFORE["batch"]
    step = 23 * batch["kernels of a step, later layer and group"] * batch["groups"]
    assert abs(step + batch["kernels of a step whatever the layers"] - batch["kernels of a step"]) < 10


def test_a_batch_moves_no_constant_of_its_solvers_and_its_table_has_both_columns() -> None:
    # Fewer layers and requests: kernels grow with the first alone.
    setting = replace(LLAMA, depth=7, layers=(1, 2), batch=3, steps=9)
    now = counted_now(setting)
    assert now.requests_per_pass == 3
    assert now.constants == 0
    assert now.counts.waits < BEFORE["batch"]["waits"]
    steps = counted_steps()
    assert steps.layer < BEFORE["batch"]["kernels of a step, later layer and group"]
    assert steps.waits < BEFORE["batch"]["waits of a step"] * 8
    rows = {what: (was, found) for what, was, found in before_and_now(now, steps, setting)}
    assert rows["kernels of a batch"] == ("1,180,000; targets 797,950 by today's count", f"{now.counts.kernels:,}")
    assert rows["waits of the host in a batch"] == ("217", f"{now.counts.waits}")
    assert rows["bytes of solvers' constants to the device"] == ("12 GB at 4096 x 14336", "0")


def test_the_page_shows_what_was_recorded() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name, line in BEFORE["crashed"].items():
        assert f"| `{name}` | crashed, `{line}` |" in page
    for name in BEFORE["ran"]:
        assert f"| `{name}` | ran |" in page
    for figure in ("1,180,000; targets 797,950 by today's count", "12 GB at 4096 x 14336"):
        assert figure in page
