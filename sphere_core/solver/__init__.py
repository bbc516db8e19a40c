"""The one least-squares solver, its priors, and its key history."""

from sphere_core.solver.least_squares import (
    KeyHistory,
    corrected_update,
    key_memory_gain,
    least_squares_update,
    times_system,
)
from sphere_core.solver.priors import MomentPrior, NullSpacePrior, Prior

__all__ = [
    "KeyHistory",
    "MomentPrior",
    "NullSpacePrior",
    "Prior",
    "corrected_update",
    "key_memory_gain",
    "least_squares_update",
    "times_system",
]
