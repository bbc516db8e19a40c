"""From a method and its hyperparameters to what it asks of memory and time."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

from sphere_core.costs.memory import Workload
from sphere_core.foundation.errors import unknown_name
from sphere_core.foundation.yaml_text import parse_yaml
from sphere_core.hyperparameters import Hyperparameters
from sphere_core.methods import Method
from sphere_core.methods.rows import HISTORY

__all__ = ["Accelerator", "TextLengths", "accelerator", "accelerator_names", "workload_of"]

# Editors whose system is a sum over all earlier batches, or that factor another one each batch.
_DENSE_EDITORS = frozenset({"lyaplock", "nse"})


@dataclass(frozen=True)
class TextLengths:
    """Mean token counts: of a prompt in its context, of a target; and scored rows of one edit request."""

    prompt: int
    target: int
    probe_rows: int


@dataclass(frozen=True)
class Accelerator:
    """Dense peak rates in FLOP/s, memory in bytes, by data sheet."""

    name: str
    bf16: float
    float64: float
    memory: float


def accelerator_names() -> list[str]:
    """Return the accelerators whose data sheets are known."""
    return sorted(_data_sheets())


def accelerator(name: str) -> Accelerator:
    """Return one accelerator; raises InputError with the nearest name."""
    sheets = _data_sheets()
    if name not in sheets:
        raise unknown_name("accelerator", name, sheets)
    sheet = sheets[name]
    return Accelerator(name, sheet["bf16"] * 1e12, sheet["float64"] * 1e12, sheet["memory"] * 1e9)


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
    return Workload(
        dtype_bytes=dtype_bytes,
        sites=len(hyperparameters.layers),
        batch=min(batch, edits),
        requests_per_pass=hyperparameters.requests_per_pass,
        rows=contexts + 1,
        prompt_tokens=lengths.prompt,
        target_tokens=lengths.target,
        last_layer=hyperparameters.layers[-1],
        has_targets="v_lr" in needed,
        prior=prior,
        history=min(edits, window) if keeps else 0,
        principal=bool({"sphere", "revive"} & set(method.regularizer_names)),
        on_accelerator=on_accelerator,
        dense="error_feedback" in method.regularizer_names or method.editor_name in _DENSE_EDITORS,
    )


def _data_sheets() -> Mapping[str, Mapping[str, float]]:
    text = resources.files("sphere_core.costs").joinpath("accelerators.yaml").read_text(encoding="utf-8")
    sheets: Mapping[str, Mapping[str, float]] = parse_yaml(text)
    return sheets
