"""What a row of the method table says."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from sphere_core.foundation.lazy import load_object
from sphere_core.hyperparameters import Hyperparameters
from sphere_core.regularizers.scope import Scope

__all__ = [
    "HISTORY",
    "KEYS",
    "SYSTEM",
    "TARGETS",
    "TARGET_NAMES",
    "EditorRow",
    "RegularizerRow",
    "function_of",
    "never",
]

# What an editor has that a regularizer may need.
KEYS, TARGETS, SYSTEM = "keys", "targets at the last layer", "a quadratic system"
HISTORY = "keys of all earlier edits, or their Gram matrix once that is smaller"


# What the optimisation of targets requires.
TARGET_NAMES = (("v_lr",), ("v_num_grad_steps",), ("v_weight_decay",), ("clamp_norm_factor",), ("kl_factor",))


def never(_: Hyperparameters) -> bool:
    """Return that second moments are not required."""
    return False


def key_and_residual(_: Hyperparameters, d_in: int, d_out: int, edits: int) -> float:
    """Return the bytes of an fp32 key and residual per edit."""
    return 4.0 * edits * (d_in + d_out)


@dataclass(frozen=True)
class EditorRow:
    """An editor: how it is built, what it needs and gives, and when regularizers act on it as published.

    `build` is a `build_inputs.Build`, or its place `module:name`, imported when an editor is made: listing methods
    loads no torch. A plugin's is called with the five fields of `BuildInputs` instead (docs/plugins.md).
    `requires` lists hyperparameters; of a tuple of several exactly one must be set. `gives` names what regularizers
    may build on. `writes_requests` False: an experiment on the weights, which counts requests and carries no
    regularizer. `revision` is raised whenever the row's numbers change, and enters the identity from 2 on: a method
    that has changed never answers with rows of its earlier form. `attaches`: the editor changes no weight and installs
    an attachment; regularizers, which reshape updates, cannot act on it. `in_contexts`: it trains on each prompt in the
    context templates without optimising targets. `stored` returns the bytes of the attachment from the hyperparameters,
    the site's d_in and d_out, and the number of edits. `needs_gradients`: where it requires second moments, it requires
    those of output gradients too. `on_experts`: whether it can write the experts of a mixture.

    A row of a plugin may own `settings`, which its build reads with `Hyperparameters.settings_of`, and may name in
    `preset` the editor whose section of a preset it starts from. `remedy` says where hyperparameters that no preset can
    hold come from.
    """

    title: str
    paper: str
    build: str | Callable[..., Any]
    requires: tuple[tuple[str, ...], ...]
    scope: Scope = Scope.AFTER_BATCH
    gives: tuple[str, ...] = ()
    needs_moments: Callable[[Hyperparameters], bool] = lambda _: True
    uses_null_space: bool = False
    state: str = "none"
    writes_requests: bool = True
    revision: Callable[[Hyperparameters], int] = lambda _: 1
    settings: type[BaseModel] | None = None
    preset: str | None = None
    attaches: bool = False
    in_contexts: bool = False
    stored: Callable[[Hyperparameters, int, int, int], float] = key_and_residual
    needs_gradients: bool = False
    remedy: str | None = None
    on_experts: Literal["never", "also", "only"] = "never"


@dataclass(frozen=True)
class RegularizerRow:
    """A regularizer: a filter of updates, a read-out, or a wrapper. `scope` None: the editor's own.

    `filter` and `read_out` are functions from hyperparameters to a `Regularizer` or `ReadOut`, or their places
    `module:name`. For a row that owns `settings`, as those of plugins do, they are functions of these settings.
    """

    title: str
    paper: str
    requires: tuple[tuple[str, ...], ...] = ()
    scope: Scope | None = None
    needs: str | None = None
    filter: str | Callable[..., Any] | None = None
    read_out: str | Callable[..., Any] | None = None
    state: str = "none"
    revision: Callable[[Hyperparameters], int] = lambda _: 1
    settings: type[BaseModel] | None = None


def function_of(given: str | Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that a row names, importing it if it is a place `module:name`."""
    if isinstance(given, str):
        found: Callable[..., Any] = load_object(given)
        return found
    return given
