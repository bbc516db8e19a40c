"""`PYTHONPATH=.:tests/support python -m ghost_before`: a batch on an accelerator, as recorded before and counted now.

The first is `tests/data/ghost_before.yaml`. The second is one batch on the ghost: the second of two of 100 requests by
`alphaedit+sphere`, layers 4-8 of a Llama of 32 narrow layers, 25 forwards, six contexts and the KL row. Kernels,
waits and what describes the texts do not depend on the width; what does would show as bytes. Prints Markdown for
docs/benchmarks.md.
"""

from dataclasses import dataclass, replace

import typer
from ghost import DEVICES, Counts, ghost
from ghost_table import counted_targets, recorded

from benchmarks.gpu.setting import SMALL, Setting
from sphere_core.costs import place
from sphere_core.methods import resolve_method
from sphere_core.models.suffix import TailLayout
from sphere_core.trajectory import run_trajectory

__all__ = ["LLAMA", "Now", "Steps", "before_and_now", "counted_now", "counted_steps", "main"]

METHOD = "alphaedit+sphere"
LLAMA = replace(SMALL, depth=32, layers=(4, 5, 6, 7, 8), batch=100, steps=25)
# What crosses for the solvers' sake: bases, factors, second moments and histories.
_SOLVERS = ("sphere_core/solver/", "sphere_core/numerics/", "sphere_core/moments/")
_STEPS = 8
_FIGURES = "sphere_core/solver/solution.py:"


@dataclass(frozen=True)
class Now:
    """Counts of the second batch, and how many requests one pass of its targets had."""

    counts: Counts
    requests_per_pass: int

    @property
    def constants(self) -> int:
        """Bytes that crossed at lines of the solvers, but for the three figures that each solve gives back."""
        crossed = {line: size for line, size in self.counts.bytes_at.items() if line.startswith(_SOLVERS)}
        return sum(size for line, size in crossed.items() if not line.startswith(_FIGURES))


@dataclass(frozen=True)
class Steps:
    """Kernels of a step of targets per later layer, and whatever the layers; waits of the host in `_STEPS` steps."""

    layer: float
    fixed: float
    waits: int


def counted_now(setting: Setting) -> Now:
    """Run two batches as a trajectory does, and return the counts of the second."""
    with ghost() as counts:
        model = setting.model(DEVICES[0])
        requests, contexts = setting.requests(model, 2 * setting.batch)
        method, values, moments = resolve_method(METHOD), setting.hyperparameters(), setting.moments(DEVICES[0])
        placed = place(model, method, values, requests, batch_size=setting.batch, contexts=contexts, moments=moments)
        chain = run_trajectory(
            "t",
            method.build(values, moments, placed),
            model,
            requests,
            batch_size=setting.batch,
            contexts=contexts,
            resume=None,
        )
        next(chain)
        counts.clear()
        next(chain)
        return Now(counts, placed.requests_per_pass)


def counted_steps() -> Steps:
    """Count eight more steps of targets before three and before four later layers."""
    (thin, waits), (thick, _) = (
        (after[0] - before[0], after[1] - before[1])
        for before, after in ((counted_targets(layers, 9, 2), counted_targets(layers, 17, 2)) for layers in (4, 5))
    )
    layer = (thick - thin) / _STEPS
    return Steps(layer, thin / _STEPS - 3 * layer, waits)


def before_and_now(now: Now, step: Steps, setting: Setting) -> list[tuple[str, str, str]]:
    """Return the rows of the table: what, as recorded, as counted."""
    was = recorded()["batch"]
    later = setting.depth - setting.layers[-1] - 1
    passes = -(-setting.batch // now.requests_per_pass)
    counts = now.counts
    return [
        (
            "kernels of a batch",
            f"{was['kernels']:,}; targets {was['recounted']:,} by today's count",
            f"{counts.kernels:,}",
        ),
        (
            "of a step of targets in one pass",
            f"{was['kernels of a step']:,}",
            f"{round(later * step.layer + step.fixed):,}",
        ),
        (
            "of these, per later layer and group, and in any case",
            f"{was['kernels of a step, later layer and group']} and {was['kernels of a step whatever the layers']}",
            f"{step.layer:.0f} and {step.fixed:.0f}",
        ),
        (
            "groups of rows; passes of targets",
            f"{was['groups']}; {was['passes']}",
            f"{TailLayout.of(DEVICES[0]).groups}; {passes}",
        ),
        ("waits of the host in a batch", f"{was['waits']}", f"{counts.waits}"),
        ("waits in a step of targets", f"{was['waits of a step']}", f"{step.waits} in {_STEPS} steps"),
        (
            "bytes of solvers' constants to the device",
            f"{was['bytes of constants to the device'] / 1e9:.0f} GB at 4096 x 14336",
            f"{now.constants:,}",
        ),
        ("all bytes to the device; to the host", "not recorded", f"{counts.to_device:,}; {counts.to_host:,}"),
    ]


def main() -> None:
    """Print the table."""
    rows = before_and_now(counted_now(LLAMA), counted_steps(), LLAMA)
    for row in [("", "recorded before", "counted now"), ("---", "---", "---"), *rows]:
        typer.echo(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    typer.run(main)
