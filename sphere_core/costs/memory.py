"""Peak memory and disk of each stage of a trajectory, predicted before anything is loaded.

Symbols: P parameters of b bytes, L edited sites of `[o, d]`, n requests a batch in C contexts, N earlier edits whose
keys are kept, T tokens of a forward pass. Sizes are bytes.

Masters and the unedited copies are fp32, decompositions and solves float64, whatever the model's dtype. Each stage is
what stays resident plus the largest thing that is held for a moment; the coefficients count the tensors the code holds.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sphere_core.costs.shape import ModelShape

__all__ = [
    "LIBRARIES",
    "Stage",
    "Workload",
    "ahead_bytes",
    "checkpoint_bytes",
    "moments_bytes",
    "opened_bytes",
    "solver_bytes",
    "stages",
    "target_bytes",
    "write_bytes",
]

# A process with torch, transformers and the harness loaded, before it holds a model.
LIBRARIES = 0.75e9
# Tokens of one forward pass: of the key walk and of second moments at most, of the scorer by default.
_FORWARD_TOKENS = 16384
_SCORER_TOKENS = 4096
_HEAD_ROWS = 256
# Tensors of a Gram matrix's size that a symmetric eigendecomposition holds: input, copy, vectors, workspace of two.
_EIGEN_COPIES = 5
_CHOLESKY_COPIES = 2
# Half-precision activations of a layer that a backward pass keeps, in units of hidden and of d_in.
_KEPT_HIDDEN, _KEPT_WIDE = 10, 4
_LOGIT_COPIES = 4


@dataclass(frozen=True)
class Workload:
    """What a method requires of a model.

    `rows` per request: its contexts and the KL prompt. `prompt_tokens` and `target_tokens` are means; targets sit at
    layer `target_layer`. `prior` is what a site stores: `moment` C0 and its factor, `null_space` a thin side, `none`.
    `history` is N at the end. `dense`: the system itself is required, not only its inverse on a batch's keys.
    `reads_ahead`: regularizers decompose the weights beside the targets.
    `host_sites`: how many sites' solvers do not fit on an accelerator. `stored`: the bytes that are stored in place of
    weights, from d_in, d_out and the number of edits; None for an editor of weights. `trained_rows`: the rows per
    request that are trained on. `filtered_steps`: steps of a batch whose gradients go through a filter of curvature.
    `span_tokens`: the mean of a row's tokens from the subject's last on, if known. Time is counted with it; memory
    takes half of the prompt and the target, an upper bound.
    """

    dtype_bytes: int
    sites: int
    batch: int
    requests_per_pass: int
    rows: int
    prompt_tokens: int
    target_tokens: int
    last_layer: int
    target_layer: int
    has_targets: bool
    prior: str
    history: int
    principal: bool
    on_accelerator: bool
    dense: bool = False
    host_sites: int = 0
    reads_ahead: bool = False
    stored: Callable[[int, int, int], float] | None = None
    trained_rows: int = 1
    filtered_steps: int = 0
    span_tokens: float | None = None


@dataclass(frozen=True)
class Stage:
    """Peak memory of one stage: on the accelerator (0 without one) and on the host."""

    name: str
    accelerator: float
    host: float


def moments_bytes(shape: ModelShape, sites: int, *, gradients: bool = False) -> float:
    """Return the size of a file of second moments: float64, one `[d, d]` a site, with `gradients` an `[o, o]` too."""
    return 8.0 * sites * (shape.moment_entries + (shape.d_out**2 if gradients else 0))


def checkpoint_bytes(shape: ModelShape, work: Workload, edits: int) -> float:
    """Return the size of a checkpoint after `edits` edits: fp32 weights, and keys or their Gram matrix.

    Keys go along with the triangle of their system's factor, float64, or with N >= d / 2 the triangle of what they take
    from the prior's covariance instead of both.
    """
    if work.stored is not None:
        return work.stored(shape.d_in, shape.d_out, edits)
    weights = 4.0 * work.sites * shape.d_out * shape.d_in
    kept = min(edits, work.history)
    square = _square_side(shape.d_in, kept, work)
    triangle = 4.0 * square * (square - 1)
    return weights + work.sites * (_history_bytes(shape.d_in, kept, work) - triangle)


def solver_bytes(width: int, work: Workload, basis: float | None = None, blocks: int = 1) -> float:
    """Return what the solver of one site with d = `width` keeps on its device from batch to batch, in bytes.

    The prior's factor, or `basis` bytes of a null space's thinner side (None: its bound, half of all directions); the
    system if it is used itself; the history before and after a batch. C0 has `blocks` blocks.
    """
    square = 8.0 * width**2 / blocks
    kept = 2.0 * _history_bytes(width, work.history, work)
    if work.prior == "moment":
        kept += square
    elif work.prior == "null_space":
        kept += square / 2 if basis is None else basis
    return kept + (square if work.dense else 0.0)


def write_bytes(shape: ModelShape, work: Workload) -> float:
    """Return what writing a batch holds beside the open sites: updates, decompositions and factors being made."""
    weight = shape.d_out * shape.d_in
    written = work.sites * weight * 8.0 + 12.0 * weight + (_principal(shape) if work.principal else 0.0)
    # A factor is made from one copy of the system, and beside it.
    beside = work.on_accelerator and work.host_sites < work.sites
    working = 16.0 * shape.moment_entries if beside and work.prior == "moment" else 0.0
    return max(written + working, _walk(shape, work))


def ahead_bytes(shape: ModelShape, work: Workload) -> float:
    """Return what regularizers that read ahead hold while targets are searched: one decomposition, all directions."""
    return _principal(shape) + 8.0 * work.sites * shape.d_out * shape.d_in


def opened_bytes(shape: ModelShape, work: Workload) -> float:
    """Return the fp32 masters of the sites and the copies of their parameters."""
    return work.sites * shape.d_out * shape.d_in * (work.dtype_bytes + 4.0)


def stages(shape: ModelShape, work: Workload) -> list[Stage]:
    """Return the stages of a trajectory in order, each with its peak."""
    return list(_stages(shape, work))


def _stages(shape: ModelShape, work: Workload) -> Iterator[Stage]:
    model = float(shape.parameters * work.dtype_bytes)
    weight = shape.d_out * shape.d_in
    opened = opened_bytes(shape, work)
    square = 8.0 * shape.moment_entries
    yield _stage(work, "load", model, 0.0)
    if work.prior != "none":
        sums = work.sites * square + 1.5 * square
        yield _stage(work, "second moments", model + opened + _forward(shape, work, _FORWARD_TOKENS), sums)
    solver, building = _solver(shape, work)
    beside = (
        (work.sites - work.host_sites) * solver_bytes(shape.d_in, work, blocks=shape.blocks)
        if work.on_accelerator
        else 0.0
    )
    model += beside
    if work.has_targets:
        ahead = ahead_bytes(shape, work) if work.reads_ahead else 0.0
        yield _stage(work, "targets", model + opened + ahead + target_bytes(shape, work), solver)
    yield _stage(work, "write", model + opened + write_bytes(shape, work), max(solver, building))
    # Written from where it lies; an accelerator's tensors lie on the host once, for the writer.
    saved = checkpoint_bytes(shape, work, work.history) if work.on_accelerator else 0.0
    yield _stage(work, "checkpoint", model + opened + work.sites * weight * 4.0, solver + saved)
    logits = _HEAD_ROWS * shape.vocabulary * (4 + 8 + 8.0)
    scored = max(_forward(shape, work, _SCORER_TOKENS) + logits, 24.0 * weight + 8.0 * _EIGEN_COPIES * shape.d_out**2)
    yield _stage(work, "score", model + opened + work.sites * weight * 4.0 + scored, 0.0)


def _stage(work: Workload, name: str, on_device: float, on_host: float) -> Stage:
    if work.on_accelerator:
        return Stage(name, on_device, LIBRARIES + on_host)
    return Stage(name, 0.0, LIBRARIES + on_device + on_host)


def _history_bytes(width: int, edits: int, work: Workload) -> float:
    if edits == 0:
        return 0.0
    if edits < width if work.dense else 2 * edits < width:
        return 4.0 * width * edits + 8.0 * edits**2
    return 8.0 * width**2


def _square_side(width: int, edits: int, work: Workload) -> int:
    """Return the side of the square of which a file holds the triangle: factor or reduction; a Gram matrix is whole."""
    if work.dense:
        return edits if edits < width else 0
    return edits if 2 * edits < width else width


def _solver(shape: ModelShape, work: Workload) -> tuple[float, float]:
    """Return what priors and history keep on the host, and the peak while the prior of the last site is made.

    With an accelerator second moments stay mapped here, and the solvers of `host_sites`.
    """
    square = 8.0 * shape.moment_entries
    moments = work.sites * square / 2
    if work.on_accelerator:
        kept = moments + work.host_sites * solver_bytes(shape.d_in, work, blocks=shape.blocks)
        return kept, kept + (_EIGEN_COPIES * square if work.prior == "null_space" else 0.0)
    history = work.sites * _history_bytes(shape.d_in, work.history, work)
    if work.prior == "moment":
        kept = moments + 2 * work.sites * square + history
        return kept, kept + _CHOLESKY_COPIES * square
    if work.prior == "null_space":
        return moments + history, moments + history + _EIGEN_COPIES * square
    return history, history


def _forward(shape: ModelShape, work: Workload, tokens: int) -> float:
    """Return the activations that one layer's forward pass holds at once."""
    return float(tokens * work.dtype_bytes * (6 * shape.hidden + 3 * shape.d_in))


def _walk(shape: ModelShape, work: Workload) -> float:
    rows = work.batch * max(work.rows - 1, 1)
    tokens = rows * work.prompt_tokens
    kept = tokens * shape.hidden * work.dtype_bytes + rows * shape.d_in * 8.0 * 2
    return kept + _forward(shape, work, min(tokens, _FORWARD_TOKENS))


def target_bytes(shape: ModelShape, work: Workload) -> float:
    """Return what one pass of requests holds: the recorded keys and values, activations for the gradient, logits."""
    requests = min(work.batch, work.requests_per_pass)
    rows = requests * work.rows
    tokens = rows * (work.prompt_tokens + work.target_tokens)
    cache = tokens * shape.layers * shape.cache_width * work.dtype_bytes
    span = shape.replayed_tokens(work.prompt_tokens, work.target_tokens)
    layers = shape.layers - work.target_layer - 1
    kept = layers * rows * span * work.dtype_bytes * (_KEPT_HIDDEN * shape.hidden + _KEPT_WIDE * shape.d_in)
    scored = (rows - requests) * work.target_tokens + requests
    return cache + kept + scored * shape.vocabulary * 4.0 * _LOGIT_COPIES


def _principal(shape: ModelShape) -> float:
    side = min(shape.d_out, shape.d_in)
    return 16.0 * shape.d_out * shape.d_in + 8.0 * _EIGEN_COPIES * side**2
