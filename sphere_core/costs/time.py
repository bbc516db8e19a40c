"""Floating-point work of editing and scoring, and the hours it takes at the rates of an accelerator.

Symbols as in `memory`; w parameters of a decoder layer, l the last edited layer of m, s tokens from the subject's last
token on. A forward pass costs 2 FLOP a parameter and token, a backward pass to the activations as much again.
"""

from dataclasses import dataclass

from sphere_core.costs.accelerators import Accelerator
from sphere_core.costs.memory import Workload
from sphere_core.costs.shape import ModelShape
from sphere_core.hyperparameters import Hyperparameters

__all__ = ["EIGEN", "Work", "ahead_work", "edit_work", "geometry_work", "hours", "moments_work", "probe_work"]

# FLOP of a symmetric eigendecomposition with vectors, in units of n^3.
EIGEN = 9.0


@dataclass(frozen=True)
class Work:
    """FLOP in the model's dtype, of float64 products and solves, and of float64 eigendecompositions."""

    model: float = 0.0
    float64: float = 0.0
    eigen: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(self.model + other.model, self.float64 + other.float64, self.eigen + other.eigen)

    def times(self, factor: float) -> "Work":
        """Return this work multiplied by a factor."""
        return Work(factor * self.model, factor * self.float64, factor * self.eigen)


def hours(work: Work, accelerator: Accelerator) -> float:
    """Return the hours of one accelerator, at the shares of its rates that work reaches."""
    seconds = work.model / (accelerator.model_share * accelerator.bf16)
    seconds += work.float64 / (accelerator.solver_share * accelerator.float64)
    return (seconds + work.eigen / (accelerator.eigen_share * accelerator.float64)) / 3600


def edit_work(shape: ModelShape, work: Workload, hyperparameters: Hyperparameters, edits: int) -> Work:
    """Return the work of editing a whole stream: targets (or gradient steps), keys, solves and projections."""
    batches = -(-edits // work.batch)
    tokens = work.prompt_tokens + work.target_tokens
    forward = 2.0 * shape.layers * shape.layer_parameters
    head = 2.0 * shape.head_parameters
    model, solver = 0.0, Work()
    if work.has_targets:
        steps = hyperparameters.v_num_grad_steps or 0
        span = _span(shape, work)
        tail = 2.0 * (shape.layers - work.target_layer - 1) * shape.layer_parameters
        scored = (work.rows - 1) * work.target_tokens + 1
        model += edits * work.rows * tokens * forward
        model += edits * steps * 2 * (work.rows * span * tail + scored * head)
        model += edits * (work.rows - 1) * work.prompt_tokens * forward * (work.last_layer + 1) / shape.layers
        solver += Work(0.0, batches * work.sites * _solve(shape, work))
    else:
        rows, again = edits * work.trained_rows * tokens, forward
        epochs = hyperparameters.num_steps or 1
        if work.stored is not None:
            # One forward of the unedited model; after it only the layers behind the memory are run.
            model += rows * forward
            again = 2.0 * (shape.layers - work.last_layer - 1) * shape.layer_parameters
            epochs = hyperparameters.num_steps or 0
        model += rows * epochs * 3 * (again + head)
        if work.filtered_steps:
            # The batch's own curvature: one more forward and backward, and the products of its rows.
            model += rows * 2 * (forward + head)
            squares = float(shape.d_in**2 + shape.d_out**2)
            solver += Work(0.0, work.sites * (batches * _filter(shape, work) + 2.0 * rows * squares))
            solver += Work(eigen=batches * work.sites * EIGEN * (shape.d_in**3 + shape.d_out**3))
    if work.principal:
        solver += _decomposition(shape).times(batches * work.sites)
    return Work(model) + solver


def ahead_work(shape: ModelShape, work: Workload, edits: int) -> Work:
    """Return the part of `edit_work` that is done beside the targets: decompositions of the current weights."""
    if not work.reads_ahead:
        return Work()
    return _decomposition(shape).times(-(-edits // work.batch) * work.sites)


def probe_work(shape: ModelShape, rows: int, tokens: float) -> Work:
    """Return the work of scoring `rows` rows of `tokens` tokens each, with the head on four positions per row."""
    return Work(rows * (tokens * 2.0 * shape.layers * shape.layer_parameters + 4 * 2.0 * shape.head_parameters))


def moments_work(
    shape: ModelShape, sites: int, last_layer: int, tokens: int, *, first_layer: int = 0, gradients: bool = False
) -> Work:
    """Return the work of one pass over a corpus that stops at the last site, and of the products of its keys.

    With `gradients` the pass runs through the whole model and the head, and back to the first site (`first_layer`); the
    products of output gradients come on top.
    """
    products = tokens * 2.0 * sites * shape.moment_entries
    if not gradients:
        return Work(tokens * 2.0 * (last_layer + 1) * shape.layer_parameters + products)
    there = shape.layers * shape.layer_parameters + shape.head_parameters
    back = (shape.layers - first_layer - 1) * shape.layer_parameters + shape.head_parameters
    return Work(tokens * 2.0 * (there + back + sites * shape.d_out**2) + products)


def geometry_work(shape: ModelShape, sites: int) -> Work:
    """Return the work of one checkpoint's energies and spectra."""
    return _decomposition(shape).times(2 * sites)


def _span(shape: ModelShape, work: Workload) -> float:
    """Return the tokens of a row that each step of the targets runs: packed ones, or whole rows."""
    if work.span_tokens is None or shape.whole_rows:
        return shape.replayed_tokens(work.prompt_tokens, work.target_tokens)
    return work.span_tokens


def _filter(shape: ModelShape, work: Workload) -> float:
    """Return the work of filtering one site's gradient at every step of a batch: four products with eigenvectors, in
    float32, counted at the rate of float64."""
    return work.filtered_steps * 4.0 * shape.d_out * shape.d_in * (shape.d_out + shape.d_in)


def _solve(shape: ModelShape, work: Workload) -> float:
    """Return the mean float64 work of one site's solve: prior on a batch's keys, and half of the final history."""
    width, earlier = shape.d_in, work.history / 2
    prior = 8.0 * width**2 * work.batch if work.prior == "moment" else 0.0
    if work.dense and work.history >= width:
        return prior + 2.0 * width**3
    if 2 * work.history < width:
        return prior + 4.0 * work.batch * earlier * (width + earlier)
    return prior + 6.0 * work.batch * width**2


def _decomposition(shape: ModelShape) -> Work:
    side, other = min(shape.d_out, shape.d_in), max(shape.d_out, shape.d_in)
    return Work(0.0, 2.0 * side**2 * other, EIGEN * side**3)
