"""`PYTHONPATH=.:tests/support python -m ghost_table`: what every method's batch and every evaluator asks of a device.

Counted on a ghost accelerator as tests/devices/test_budgets.py does: a Llama of four layers, the second of two batches
of two requests, nine forwards of targets or four steps of training. Prints Markdown for docs/benchmarks.md, with what
was recorded of the method before
(`tests/data/ghost_before.yaml`), or nothing if it was not tried then.
"""

from typing import Any

import typer
from ghost import Counts, ghost
from ghost_parts import on_ghost
from method_parts import editor
from repository import REPOSITORY
from tiny_models import CONTEXTS, requests, tiny_model

from sphere_core.foundation.yaml_text import parse_yaml
from sphere_core.locate.batch import locate
from sphere_core.locate.targets import TargetSettings, optimise_targets
from sphere_core.methods import EDITORS, example_names
from sphere_core.trajectory import run_trajectory

__all__ = ["counted_batch", "counted_targets", "main", "recorded"]

_STEPS: dict[str, Any] = {"num_steps": 4}
_TRAINED = ("ft", "ft_l", "lora", "crispedit", "eblora", "grace", "wise", "memoir")


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
    """Print a row per editor, those of mixtures alone left out, and of MEMIT and AlphaEdit with everything on top."""
    typer.echo("| method | recorded before | kernels | waits | bytes to the host | bytes to the device |")
    typer.echo("|---|---|---|---|---|---|")
    before = recorded()
    states = {name: f"crashed, `{line}`" for name, line in before["crashed"].items()} | dict.fromkeys(
        before["ran"], "ran"
    )
    names = [name for name, row in EDITORS.items() if row.on_experts != "only"]
    for method in [*names, *(name for name in example_names() if name.startswith(("memit+", "alphaedit+")))]:
        found = counted_batch(method)
        state = states.get(method, "")
        counted = (f"`{method}`", state, found.kernels, found.waits, found.to_host, found.to_device)
        typer.echo(f"| {' | '.join(format(part, '' if isinstance(part, str) else ',') for part in counted)} |")


if __name__ == "__main__":
    main()
