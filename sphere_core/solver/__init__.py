"""The one least-squares solver, its priors, and its key history."""

from typing import TYPE_CHECKING

from sphere_core.foundation.lazy import lazy_exports

if TYPE_CHECKING:
    from sphere_core.solver.least_squares import (
        KeyHistory,
        key_memory_gain,
        least_squares_solution,
        least_squares_update,
        times_system,
    )
    from sphere_core.solver.placement import BESIDE_LAYERS, Placement, solvers_on_host
    from sphere_core.solver.priors import HostPrior, MomentPrior, NullSpacePrior, Prior
    from sphere_core.solver.solution import Solution, SolveFigures

__all__ = [
    "BESIDE_LAYERS",
    "HostPrior",
    "KeyHistory",
    "MomentPrior",
    "NullSpacePrior",
    "Placement",
    "Prior",
    "Solution",
    "SolveFigures",
    "key_memory_gain",
    "least_squares_solution",
    "least_squares_update",
    "solvers_on_host",
    "times_system",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "least_squares": "KeyHistory key_memory_gain least_squares_solution least_squares_update times_system",
        "placement": "BESIDE_LAYERS Placement solvers_on_host",
        "priors": "HostPrior MomentPrior NullSpacePrior Prior",
        "solution": "Solution SolveFigures",
    },
)
