"""What a row of the method table says."""

from collections.abc import Callable
from dataclasses import dataclass

from sphere_core.editors.base import Editor
from sphere_core.editors.shaping import Shaping
from sphere_core.hyperparameters import Hyperparameters
from sphere_core.moments.record import SecondMoments
from sphere_core.regularizers.base import ReadOut, Regularizer, Scope
from sphere_core.regularizers.nas import AnchorSettings

__all__ = ["HISTORY", "KEYS", "SYSTEM", "TARGETS", "Build", "EditorRow", "RegularizerRow"]

# What an editor has that a regularizer may need.
KEYS, TARGETS, SYSTEM = "keys", "targets at the last layer", "a quadratic system"
HISTORY = "keys of all earlier edits, or their Gram matrix once that is smaller"

Build = Callable[[Hyperparameters, SecondMoments | None, Shaping, AnchorSettings | None], Editor]


@dataclass(frozen=True)
class EditorRow:
    """An editor: how it is built, what it needs and gives, and when regularizers act on it as published.

    `requires` lists hyperparameters; of a tuple of several exactly one must be set. `gives` names what regularizers
    may build on. `revision` is raised whenever the row's numbers change, and enters the identity from 2 on: a method
    that has changed never answers with rows of its earlier form.
    """

    title: str
    paper: str
    build: Build
    requires: tuple[tuple[str, ...], ...]
    scope: Scope = Scope.AFTER_BATCH
    gives: tuple[str, ...] = ()
    needs_moments: Callable[[Hyperparameters], bool] = lambda _: True
    uses_null_space: bool = False
    state: str = "none"
    revision: Callable[[Hyperparameters], int] = lambda _: 1


@dataclass(frozen=True)
class RegularizerRow:
    """A regularizer: a filter of updates, a read-out, or a wrapper. `scope` None: the editor's own."""

    title: str
    paper: str
    requires: tuple[tuple[str, ...], ...] = ()
    scope: Scope | None = None
    needs: str | None = None
    filter: Callable[[Hyperparameters], Regularizer] | None = None
    read_out: Callable[[Hyperparameters], ReadOut] | None = None
    state: str = "none"
    revision: Callable[[Hyperparameters], int] = lambda _: 1
