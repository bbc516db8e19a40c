"""The exact forms of the least-squares step: which one is chosen when, and what the solver refuses.

The page docs/reference/solver.md is made from these tables, and the solver chooses by `chosen_form`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["CARRIED", "DENSE", "EQUALITY", "FORMS", "MEMORY", "OWN", "REDUCED", "REFUSED", "SolverForm", "chosen_form"]

CARRIED, DENSE, MEMORY, REDUCED = "carried factor", "dense", "key memory", "reduced history"
# No system of this kind: ROME, R-ROME, and EMMET with a single request.
EQUALITY = "equality"
# That of a rule which returns an update alone.
OWN = "the rule's own"


@dataclass(frozen=True)
class SolverForm:
    """When a form is chosen, the system that it factors, what a batch costs, and what its residual is relative to."""

    when: str
    factors: str
    cost: str
    residual: str


FORMS: Mapping[str, SolverForm] = {
    MEMORY: SolverForm(
        when="N + n < d, and no factor is kept: no history, a window, or the first batch",
        factors="I + M^T Pi^-1 M, [N + n, N + n]",
        cost="O(d^2 (N + n) + (N + n)^3)",
        residual="A G = K",
    ),
    CARRIED: SolverForm(
        when="a history of N < d / 2 keys without a window; with error feedback, which needs A, N < d",
        factors="the rows that a batch adds to the factor of I + M^T Pi^-1 M",
        cost="O(d^2 n + d N n + N^2 n)",
        residual="A G = K",
    ),
    REDUCED: SolverForm(
        when="a history from N = d / 2 on, without a window and without error feedback",
        factors="I + K^T S K, [n, n]",
        cost="O(d^2 n)",
        residual="G (I + K^T S K) = S K",
    ),
    DENSE: SolverForm(
        when="N + n >= d otherwise; wherever an error is fed back",
        factors="A, [d, d]",
        cost="O(d^3 + d^2 (N + n))",
        residual="A G = K, or dW A = R K^T + B with an error fed back",
    ),
}

# What is not well posed, as its error says it of a matrix, and why.
REFUSED: Mapping[str, str] = {
    "is not positive definite": "a Cholesky factor met a pivot that is not positive: this is not a second moment, or "
    "it was summed over fewer tokens than it has rows",
    "is singular in float64": "the factor of Pi exists by rounding alone: its pivots span more than the digits of "
    "float64, and directions that the corpus never had would be written without limit",
    "has no eigenvalue below the threshold, or is an empty projector": "the null space has no direction, so that "
    "AlphaEdit and EvoEdit could write nothing",
}


def chosen_form(*, width: int, count: int, kept: int | None, carried: bool, reduced: bool, corrected: bool) -> str:
    """Return the form of one batch of n = `count` keys of d = `width` entries.

    `kept` is the number N of earlier keys that are held as columns, None if only their Gram matrix is; `carried`
    and `reduced` say what a history has made of them; `corrected`, that an error is fed back.
    """
    if corrected:
        return DENSE
    if reduced:
        return REDUCED
    if carried:
        return CARRIED
    return MEMORY if kept is not None and kept + count < width else DENSE
