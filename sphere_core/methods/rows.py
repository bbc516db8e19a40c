"""What a row of the method table says."""

from collections.abc import Callable
from dataclasses import dataclass

from sphere_core.hyperparameters import Hyperparameters
from sphere_core.regularizers.scope import Scope

__all__ = ["HISTORY", "KEYS", "SYSTEM", "TARGETS", "EditorRow", "RegularizerRow"]

# What an editor has that a regularizer may need.
KEYS, TARGETS, SYSTEM = "keys", "targets at the last layer", "a quadratic system"
HISTORY = "keys of all earlier edits, or their Gram matrix once that is smaller"


@dataclass(frozen=True)
class EditorRow:
    """An editor: how it is built, what it needs and gives, and when regularizers act on it as published.

    `build` is the place `module:name` of an `assembly.Build`, imported when an editor is made: listing methods loads no
    torch.
    `requires` lists hyperparameters; of a tuple of several exactly one must be set. `gives` names what regularizers
    may build on. `writes_requests` False: an experiment on the weights, which counts requests and carries no
    regularizer. `revision` is raised whenever the row's numbers change, and enters the identity from 2 on: a method
    that has changed never answers with rows of its earlier form.
    """

    title: str
    paper: str
    build: str
    requires: tuple[tuple[str, ...], ...]
    scope: Scope = Scope.AFTER_BATCH
    gives: tuple[str, ...] = ()
    needs_moments: Callable[[Hyperparameters], bool] = lambda _: True
    uses_null_space: bool = False
    state: str = "none"
    writes_requests: bool = True
    revision: Callable[[Hyperparameters], int] = lambda _: 1


@dataclass(frozen=True)
class RegularizerRow:
    """A regularizer: a filter of updates, a read-out, or a wrapper. `scope` None: the editor's own.

    `filter` and `read_out` are places `module:name` of functions from hyperparameters to a `Regularizer` or `ReadOut`.
    """

    title: str
    paper: str
    requires: tuple[tuple[str, ...], ...] = ()
    scope: Scope | None = None
    needs: str | None = None
    filter: str | None = None
    read_out: str | None = None
    state: str = "none"
    revision: Callable[[Hyperparameters], int] = lambda _: 1
