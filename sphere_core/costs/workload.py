"""From a method and its hyperparameters to what it asks of memory and time."""

from dataclasses import dataclass
from functools import partial

from sphere_core.costs.memory import Workload
from sphere_core.hyperparameters import Hyperparameters
from sphere_core.methods import Method
from sphere_core.methods.rows import HISTORY

__all__ = ["TextLengths", "lengths_of", "workload_of"]

# Editors whose system is a sum over all earlier batches, or that factor another one each batch.
_DENSE_EDITORS = frozenset({"lyaplock", "nse"})


@dataclass(frozen=True)
class TextLengths:
    """Mean token counts: of a prompt in its context, of a target; and scored rows of one edit request.

    `span`: the tokens of a row of targets from its subject's last token on; None: as if subjects ended halfway.
    `probe_tree` and `probe_padded`: the tokens read for a pair of probe and answer, in prefix trees and in padded rows.
    """

    prompt: int
    target: int
    probe_rows: int
    span: float | None = None
    probe_tree: float = 0.0
    probe_padded: float = 0.0


# Spans and probes are what `build_objective` packs in seven rows per request and `score_pairs` reads: of 100 and of all
# of 500 CounterFact records (2,716 of 700 rows; 51,343 and 80,462 of 13,000 pairs) and of 500 and 1,000 of zsRE, with
# SmolLM2's tokenizer; of 100 edits of the fact world with its own. `probe_rows`: each probe with both answers.
_LENGTHS = {
    "counterfact": TextLengths(18, 2, 26, span=3.88, probe_tree=3.95, probe_padded=6.19),
    "zsre": TextLengths(22, 3, 3, span=4.96, probe_tree=12.0, probe_padded=17.9),
    "factworld": TextLengths(14, 1, 12, span=3.48, probe_tree=2.75, probe_padded=5.12),
}


def lengths_of(dataset: str) -> TextLengths:
    """Return the mean lengths of a dataset's texts; those of CounterFact for one that was not measured."""
    return _LENGTHS.get(dataset, _LENGTHS["counterfact"])


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
        span_tokens=lengths.span,
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
