"""`PYTHONPATH=.:tests/support python -m ghost_table`: what every method's batch and every evaluator asks of a device.

Counted on a ghost accelerator as tests/devices/test_budgets.py does: a Llama of four layers, the second of two batches
of two requests, nine forwards of targets or four steps of training. Evaluators as tests/devices/test_evaluators.py
does. Prints Markdown for docs/benchmarks.md, with what was recorded of the method before
(`tests/data/ghost_before.yaml`), or nothing if it was not tried then.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import typer
from ghost import Counts, ghost
from ghost_evaluators import MAKERS, counted_evaluator
from ghost_parts import on_ghost
from method_parts import editor
from repository import REPOSITORY
from tiny_models import CONTEXTS, requests, tiny_model

from sphere_core.foundation.yaml_text import parse_yaml
from sphere_core.locate.batch import locate
from sphere_core.locate.targets import TargetSettings, optimise_targets
from sphere_core.methods import EDITORS, example_names
from sphere_core.trajectory import run_trajectory

__all__ = ["Asked", "counted_batch", "counted_targets", "main", "recorded", "rows_of_page", "table_names"]

_STEPS: dict[str, Any] = {"num_steps": 4}
_TRAINED = ("ft", "ft_l", "lora", "crispedit", "eblora", "grace", "wise", "memoir")
_TITLES = {"edit_quality": "`edit_quality`, four protocols and generation"}


class Asked(NamedTuple):
    """What the page prints of a method's batch."""

    kernels: int
    waits: int
    to_host: int
    to_device: int


def rows_of_page() -> dict[str, Asked]:
    """Return what docs/benchmarks.md prints of each editor and of what is on top of it."""
    found, known = {}, {f"`{name}`": name for name in (*EDITORS, *example_names())}
    for line in (REPOSITORY / "docs/benchmarks.md").read_text(encoding="utf-8").splitlines():
        name, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        numbers = [cell.replace(",", "") for cell in cells[1:]]
        if name in known and len(numbers) == len(Asked._fields) and all(number.isdigit() for number in numbers):
            found[known[name]] = Asked(*map(int, numbers))
    return found


def table_names() -> list[str]:
    """Return every editor, those of mixtures alone left out, and MEMIT and AlphaEdit with everything on top."""
    names = [name for name, row in EDITORS.items() if row.on_experts != "only"]
    return [*names, *(name for name in example_names() if name.startswith(("memit+", "alphaedit+")))]


def counted_batch(method: str) -> Counts:
    """Return what the second batch of a method asks of the device."""
    changes = _STEPS if method.partition("+")[0] in _TRAINED else {}
    changes = {**changes, "memory_background": 1} if method in ("wise", "memoir") else changes
    with ghost() as counts:
        model = on_ghost(tiny_model("llama", layers=4))
        built = editor(method, model, v_num_grad_steps=9, v_stop_loss=0.0, **changes)
        chain = run_trajectory("t", built, model, requests()[:4], batch_size=2, contexts=CONTEXTS, resume=None)
        next(chain)
        counts.clear()
        next(chain)
        return counts


def counted_targets(layers: int, steps: int, count: int) -> tuple[int, int, int]:
    """Return kernels, waits and bytes to the host of one pass of targets at layer 0."""
    with ghost() as counts:
        model = on_ghost(tiny_model("llama", layers=layers))
        batch = locate(model, requests()[:count], CONTEXTS)
        settings = TargetSettings(0, 0.3, steps, 0.1, 2.0, 0.0625, 0.0, 100, 0)
        counts.clear()
        optimise_targets(model, batch, settings)
        return counts.kernels, counts.waits, counts.to_host


def recorded() -> dict[str, Any]:
    """Return what was recorded of an accelerator before."""
    found: dict[str, Any] = parse_yaml((REPOSITORY / "tests/data/ghost_before.yaml").read_text(encoding="utf-8"))
    return found


def main() -> None:
    """Print a row per method of `table_names` and per evaluator."""
    typer.echo(
        "| method or evaluator | before | kernels | waits of the host | bytes to the host | bytes to the device |"
    )
    typer.echo("|---|---|---|---|---|---|")
    before = recorded()
    states = {name: f"crashed, `{line}`" for name, line in before["crashed"].items()}
    states |= dict.fromkeys([*before["ran"], *before["evaluators"]], "ran")
    for method in table_names():
        _print(f"`{method}`", states.get(method, ""), counted_batch(method))
    for kind in MAKERS:
        with TemporaryDirectory() as folder:
            _print(_TITLES.get(kind, f"`{kind}`"), states.get(kind, ""), counted_evaluator(kind, Path(folder)))


def _print(title: str, state: str, found: Counts) -> None:
    numbers = (found.kernels, found.waits, found.to_host, found.to_device)
    typer.echo(f"| {title} | {state} | {' | '.join(format(number, ',') for number in numbers)} |")


if __name__ == "__main__":
    main()
