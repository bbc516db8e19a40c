"""What a fine-tuning costs: floating-point work, peak memory, and the bytes of a checkpoint.

Symbols: P_t parameters that are trained through, F numbers of their adapters (r (d_in + d_out) per module), b bytes of
the network's dtype, T tokens of a step, at most its texts times `max_length`.
"""

from sphere_core.costs.memory import Workload
from sphere_core.costs.shape import ModelShape
from sphere_core.costs.time import Work
from sphere_core.tuning.settings import TuningSettings

__all__ = ["tuned_parameters", "tuning_checkpoint_bytes", "tuning_peak", "tuning_work"]

# Activations of a layer that a backward pass keeps, in units of hidden and of d_in, and copies of the logits.
_KEPT_HIDDEN, _KEPT_WIDE, _LOGIT_COPIES = 10, 4, 4


def tuned_parameters(shape: ModelShape, settings: TuningSettings, edited: int) -> int:
    """Return P_t; `edited` is how many layers the method edits. `modules` that leave some out are not counted off."""
    layers = {"all": shape.layers, "edited": edited, "others": shape.layers - edited}[settings.layers]
    if settings.method == "full" and settings.layers == "all":
        return shape.parameters
    return layers * shape.layer_parameters


def tuning_work(shape: ModelShape, settings: TuningSettings, edited: int) -> Work:
    """Return the work of all steps: a forward, and backwards to activations and to the trained weights."""
    tokens = settings.batch_size * settings.max_length
    whole = shape.layers * shape.layer_parameters + shape.head_parameters
    trained = tuned_parameters(shape, settings, edited)
    # B A, B^T G and G A^T of every module.
    adapters = 6.0 * (settings.rank or 0) * trained
    return Work(settings.steps * (tokens * (4.0 * whole + 2.0 * trained) + adapters))


def tuning_checkpoint_bytes(shape: ModelShape, settings: TuningSettings, edited: int, work: Workload) -> float:
    """Return the size of a checkpoint: fp32 masters of what is tuned, and what AdamW moves with both its moments.

    The method's own edited sites are counted once, where they are not tuned, and an attachment beside.
    """
    trained = tuned_parameters(shape, settings, edited)
    moved = trained if settings.method == "full" else _factors(shape, settings, edited)
    sites = 0.0 if settings.layers != "others" else 4.0 * work.sites * shape.d_out * shape.d_in
    attached = 0.0 if work.stored is None else work.stored(shape.d_in, shape.d_out, work.history)
    return 4.0 * trained + 12.0 * moved + sites + attached


def tuning_peak(shape: ModelShape, settings: TuningSettings, edited: int, dtype_bytes: int) -> float:
    """Return the largest memory of a step: the network, start and masters of what is tuned, gradients and moments
    before and after a step, and a backward pass's activations."""
    trained = tuned_parameters(shape, settings, edited)
    moved = trained if settings.method == "full" else _factors(shape, settings, edited)
    tokens = settings.batch_size * settings.max_length
    kept = shape.layers * (_KEPT_HIDDEN * shape.hidden + _KEPT_WIDE * shape.d_in) * dtype_bytes
    step = tokens * (kept + 4.0 * _LOGIT_COPIES * shape.vocabulary)
    resident = shape.parameters * dtype_bytes + trained * (8.0 + dtype_bytes)
    return resident + trained * (4.0 + dtype_bytes) + 24.0 * moved + step


def _factors(shape: ModelShape, settings: TuningSettings, edited: int) -> float:
    """Return F for layers of four attention and three MLP modules, an upper bound: keys and values may be thinner."""
    layers = {"all": shape.layers, "edited": edited, "others": shape.layers - edited}[settings.layers]
    sides = 8 * shape.hidden + 3 * (shape.hidden + shape.d_in)
    return float(layers * (settings.rank or 0) * sides)
