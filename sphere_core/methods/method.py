"""A method by its name: an editor, with regularizers after plus signs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sphere_core.foundation.errors import InputError, nearest_name
from sphere_core.foundation.lazy import load_object
from sphere_core.hyperparameters import Hyperparameters
from sphere_core.methods.editors import EDITORS
from sphere_core.methods.regularizers import REGULARIZERS
from sphere_core.methods.rows import EditorRow, RegularizerRow
from sphere_core.regularizers.scope import Scope
from sphere_core.solver.placement import BESIDE_LAYERS, Placement

if TYPE_CHECKING:
    from sphere_core.editors.base import Editor
    from sphere_core.moments.record import SecondMoments

__all__ = ["Method", "example_names", "resolve_method"]


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
    def regularizer_rows(self) -> list[RegularizerRow]:
        """The regularizers' rows, in order."""
        return [REGULARIZERS[name] for name in self.regularizer_names]

    def needs_moments(self, hyperparameters: Hyperparameters) -> bool:
        """Return whether second moments are required before the first edit."""
        return self.editor_row.needs_moments(hyperparameters)

    @property
    def paper(self) -> str:
        """The papers this method comes from."""
        return ", ".join([self.editor_row.paper, *(row.paper for row in self.regularizer_rows)])

    @property
    def state(self) -> str:
        """What a checkpoint keeps beside the weights."""
        states = [self.editor_row.state, *(row.state for row in self.regularizer_rows)]
        parts = [state for state in states if state != "none"]
        return "; ".join(parts) if parts else "none"

    def revisions(self, hyperparameters: Hyperparameters) -> dict[str, int]:
        """Return the rows whose numbers have changed since their first form, each with its revision."""
        rows: dict[str, EditorRow | RegularizerRow] = {self.editor_name: self.editor_row}
        rows |= dict(zip(self.regularizer_names, self.regularizer_rows, strict=True))
        found = {name: row.revision(hyperparameters) for name, row in rows.items()}
        return {name: revision for name, revision in found.items() if revision > 1}

    def check(self, hyperparameters: Hyperparameters, *, where: str) -> None:
        """Raise InputError naming every hyperparameter that the method needs and is not given."""
        missing: list[tuple[str, ...]] = []
        for requires in (self.editor_row.requires, *(row.requires for row in self.regularizer_rows)):
            for alternatives in requires:
                # False is how released FT files say that there is no box.
                values = {name: getattr(hyperparameters, name) for name in alternatives}
                given = [name for name, value in values.items() if value is not None and value is not False]
                if len(given) != 1 and alternatives not in missing:
                    missing.append(alternatives)
        if not missing:
            return
        names = ["' or '".join(alternatives) for alternatives in missing]
        listed = "', '".join(names)
        if len(missing) > 1:
            what = f"method '{self.name}' needs the hyperparameters '{listed}'"
        elif len(missing[0]) > 1:
            what = f"method '{self.name}' needs exactly one of '{names[0]}'"
        else:
            what = f"method '{self.name}' needs the hyperparameter '{names[0]}'"
        raise InputError(what, where=where, remedy=f"set '{listed}' in the hyperparameters")

    def build(
        self,
        hyperparameters: Hyperparameters,
        moments: "SecondMoments | None",
        placement: Placement = BESIDE_LAYERS,
    ) -> "Editor":
        """Return the editor, with its priors made from the second moments where it needs them.

        `placement` says which layers' solvers run on the host; left out, each runs beside its layer. Raises
        InputError if moments are needed and not given.
        """
        build: Callable[..., Editor] = load_object("sphere_core.methods.assembly:build_editor")
        return build(self, hyperparameters, moments, placement)

    def scope_of(self, regularizer: str) -> Scope:
        """Return when a regularizer acts on this editor; after PRUNE, SPHERE acts on the read-out too, as released."""
        row = REGULARIZERS[regularizer]
        if row.scope is not None:
            return row.scope
        before = self.regularizer_names[: self.regularizer_names.index(regularizer)]
        if any(REGULARIZERS[name].scope is Scope.READ_OUT for name in before):
            return Scope.READ_OUT
        return self.editor_row.scope


def resolve_method(name: str, *, where: str | None = None) -> Method:
    """Return the method of a name such as `memit+rect+sphere`.

    Raises InputError with the nearest valid name, or with the reason why a combination makes no method.
    """
    editor, *regularizers = name.split("+")
    if editor not in EDITORS or any(part not in REGULARIZERS for part in regularizers):
        near = nearest_name(name, example_names())
        hint = f"did you mean '{near}'? " if near else ""
        raise InputError(
            f"unknown method '{name}'",
            where=where,
            remedy=f"{hint}editors: {', '.join(EDITORS)}; after a plus: {', '.join(REGULARIZERS)}",
        )
    if len(set(regularizers)) != len(regularizers):
        raise InputError(f"method '{name}' names a regularizer twice", where=where)
    if regularizers and not EDITORS[editor].writes_requests:
        raise InputError(
            f"'{editor}' writes no requests, so that no regularizer applies to it",
            where=where,
            remedy=f"use '{editor}'",
        )
    for part in regularizers:
        needed = REGULARIZERS[part].needs
        if needed not in (None, *EDITORS[editor].gives):
            raise InputError(
                f"'{part}' needs {needed}, which '{editor}' does not have",
                where=where,
                remedy=f"editors that do: {', '.join(e for e, row in EDITORS.items() if needed in row.gives)}",
            )
    read_out = [REGULARIZERS[part].scope is Scope.READ_OUT for part in regularizers]
    if any(read_out) and any(part != "sphere" for part in regularizers[read_out.index(True) + 1 :] if part != "gate"):
        raise InputError(f"in '{name}', only sphere can follow a read-out regularizer", where=where)
    filters = [part for part in regularizers if REGULARIZERS[part].filter is not None]
    if "error_feedback" in regularizers and not filters:
        raise InputError(f"'{name}' has no regularizer whose error could be fed back", where=where)
    return Method(name, editor, tuple(regularizers))


def example_names() -> list[str]:
    """Return every editor, alone and with each single regularizer it can carry."""
    names = list(EDITORS)
    for editor, row in EDITORS.items():
        for regularizer, entry in REGULARIZERS.items():
            if row.writes_requests and regularizer != "error_feedback" and entry.needs in (None, *row.gives):
                names.append(f"{editor}+{regularizer}")
    return names
