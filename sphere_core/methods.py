"""The table of methods: a name is an editor, with regularizers after plus signs.

A new closed-form editor is a row with its prior; a new regularizer is a row with its class.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from sphere_core.editors.base import Editor
from sphere_core.editors.closed_form import ClosedFormEditor
from sphere_core.editors.least_squares import MomentPrior, NullSpacePrior, Prior
from sphere_core.errors import InputError, unknown_name
from sphere_core.hyperparameters import Hyperparameters
from sphere_core.locate.moments import SecondMoments, null_space
from sphere_core.regularizers.base import Regularizer, Scope
from sphere_core.regularizers.sphere import Sphere

__all__ = ["EDITORS", "REGULARIZERS", "EditorRow", "Method", "RegularizerRow", "resolve_method"]


@dataclass(frozen=True)
class EditorRow:
    """An editor: its prior, whether it keeps key history, and when regularizers act on it as published."""

    title: str
    paper: str
    prior: Callable[[torch.Tensor, Hyperparameters], Prior]
    keeps_history: bool
    scope: Scope
    requires: tuple[tuple[str, ...], ...]
    state: str


@dataclass(frozen=True)
class RegularizerRow:
    """A regularizer: how it is built from hyperparameters."""

    title: str
    paper: str
    build: Callable[[Hyperparameters], Regularizer]
    requires: tuple[tuple[str, ...], ...]
    state: str


def _moment_prior(moment: torch.Tensor, hyperparameters: Hyperparameters) -> Prior:
    return MomentPrior(moment, _given(hyperparameters.mom2_update_weight))


def _null_space_prior(moment: torch.Tensor, hyperparameters: Hyperparameters) -> Prior:
    space = null_space(moment, threshold=hyperparameters.nullspace_threshold, share=hyperparameters.nullspace_share)
    return NullSpacePrior(space, _given(hyperparameters.L2))


def _sphere(hyperparameters: Hyperparameters) -> Regularizer:
    return Sphere(
        energy_ratio=_given(hyperparameters.energy_ratio),
        strength=_given(hyperparameters.strength),
        basis=hyperparameters.basis,
    )


EDITORS: Mapping[str, EditorRow] = {
    "memit": EditorRow(
        title="MEMIT: prior lambda C0, no history",
        paper="arXiv 2210.07229",
        prior=_moment_prior,
        keeps_history=False,
        scope=Scope.AFTER_BATCH,
        requires=(("mom2_update_weight",),),
        state="none",
    ),
    "alphaedit": EditorRow(
        title="AlphaEdit: ridge inside the null space of C0, history kept",
        paper="arXiv 2410.02355",
        prior=_null_space_prior,
        keeps_history=True,
        scope=Scope.IN_LOOP,
        requires=(("L2",), ("nullspace_threshold", "nullspace_share")),
        state="keys of all earlier edits, or their Gram matrix once that is smaller",
    ),
}

REGULARIZERS: Mapping[str, RegularizerRow] = {
    "sphere": RegularizerRow(
        title="SPHERE: updates damped along the principal directions of the neurons",
        paper="arXiv 2510.01172",
        build=_sphere,
        requires=(("energy_ratio",), ("strength",)),
        state="none",
    ),
}


@dataclass(frozen=True)
class Method:
    """A named row: an editor and the regularizers on it, in order."""

    name: str
    editor_name: str
    regularizer_names: tuple[str, ...]

    @property
    def editor_row(self) -> EditorRow:
        """The editor's row."""
        return EDITORS[self.editor_name]

    @property
    def needs_moments(self) -> bool:
        """Whether second moments must be there before the first edit."""
        return True

    @property
    def paper(self) -> str:
        """The papers this method comes from."""
        rows = [self.editor_row.paper, *(REGULARIZERS[name].paper for name in self.regularizer_names)]
        return ", ".join(rows)

    def check(self, hyperparameters: Hyperparameters, *, where: str) -> None:
        """Raise InputError naming the first hyperparameter the method needs and is not given."""
        needed = list(self.editor_row.requires)
        for name in self.regularizer_names:
            needed.extend(REGULARIZERS[name].requires)
        for alternatives in needed:
            given = [name for name in alternatives if getattr(hyperparameters, name) is not None]
            if len(given) != 1:
                names = "' or '".join(alternatives)
                raise InputError(
                    f"method '{self.name}' needs exactly one of '{names}'"
                    if len(alternatives) > 1
                    else f"method '{self.name}' needs the hyperparameter '{names}'",
                    where=where,
                    remedy=f"set '{names}' in the hyperparameters",
                )

    def build(self, hyperparameters: Hyperparameters, moments: SecondMoments) -> Editor:
        """Return the editor, with its priors made from the second moments."""
        row = self.editor_row
        priors = {layer: row.prior(moments.by_layer[layer], hyperparameters) for layer in hyperparameters.layers}
        regularizers = [REGULARIZERS[name].build(hyperparameters) for name in self.regularizer_names]
        return ClosedFormEditor(
            hyperparameters,
            priors,
            keeps_history=row.keeps_history,
            regularizers=regularizers,
            scope=row.scope,
        )


def resolve_method(name: str, *, where: str | None = None) -> Method:
    """Return the method of a name such as `alphaedit+sphere`; raises InputError with the nearest valid name."""
    editor, *regularizers = name.split("+")
    if editor not in EDITORS:
        raise unknown_name("method", name, _all_names(), where=where)
    for regularizer in regularizers:
        if regularizer not in REGULARIZERS:
            raise unknown_name("method", name, _all_names(), where=where)
    if len(set(regularizers)) != len(regularizers):
        raise InputError(f"method '{name}' names a regularizer twice", where=where)
    return Method(name, editor, tuple(regularizers))


def _all_names() -> list[str]:
    return [*EDITORS, *(f"{editor}+{name}" for editor in EDITORS for name in REGULARIZERS)]


def _given(value: float | None) -> float:
    if value is None:
        raise InputError("a hyperparameter of the method is missing", remedy="call Method.check first")
    return value
