"""From a method and its hyperparameters to what it asks of memory and time."""

from dataclasses import dataclass
from functools import partial

from sphere_core.costs.memory import Workload
from sphere_core.hyperparameters import Hyperparameters
from sphere_core.methods import Method
from sphere_core.methods.rows import HISTORY

__all__ = ["TextLengths", "workload_of"]

# Editors whose system is a sum over all earlier batches, or that factor another one each batch.
_DENSE_EDITORS = frozenset({"lyaplock", "nse"})


@dataclass(frozen=True)
class TextLengths:
    """Mean token counts: of a prompt in its context, of a target; and scored rows of one edit request."""

    prompt: int
    target: int
    probe_rows: int


def workload_of(
    method: Method,
    hyperparameters: Hyperparameters,
    *,
    dtype_bytes: int,
    batch: int,
    edits: int,
    contexts: int,
    lengths: TextLengths,
    on_accelerator: bool,
) -> Workload:
    """Return the workload of a method on a stream of `edits` edits in batches; `contexts` counts all templates."""
    row = method.editor_row
    needed = {name for names in row.requires for name in names}
    prior = "none"
    if method.needs_moments(hyperparameters):
        prior = "null_space" if "nullspace_threshold" in needed else "moment"
    keeps = HISTORY in method.state
    window = hyperparameters.history_window or edits
    chunks = -(-min(batch, edits) // int(hyperparameters.batch_size or batch))
    return Workload(
        dtype_bytes=dtype_bytes,
        sites=len(hyperparameters.places),
        batch=min(batch, edits),
        requests_per_pass=hyperparameters.requests_per_pass,
        rows=contexts + 1,
        prompt_tokens=lengths.prompt,
        target_tokens=lengths.target,
        last_layer=hyperparameters.layers[-1],
        target_layer=hyperparameters.layers[0 if hyperparameters.targets == "forward" else -1],
        has_targets="v_lr" in needed,
        prior=prior,
        history=min(edits, window) if keeps else 0,
        principal=bool({"sphere", "revive"} & set(method.regularizer_names)),
        on_accelerator=on_accelerator,
        trained_rows=contexts if row.in_contexts else 1,
        filtered_steps=chunks * (hyperparameters.num_steps or 1) if row.needs_gradients else 0,
        stored=partial(row.stored, hyperparameters) if row.attaches else None,
        dense="error_feedback" in method.regularizer_names or method.editor_name in _DENSE_EDITORS,
    )
