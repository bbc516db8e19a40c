"""Putting an editor together: its own build, the regularizers on its updates, and the wrappers around it."""

from collections.abc import Callable
from typing import Any

from sphere_core.editors.base import Editor
from sphere_core.editors.shaping import Shaping
from sphere_core.editors.wrappers.gate import GatedEditor, GateSettings
from sphere_core.editors.wrappers.read_out import ReadOutEditor
from sphere_core.editors.wrappers.simie import SimieEditor
from sphere_core.foundation.errors import InputError
from sphere_core.hyperparameters import Hyperparameters
from sphere_core.methods.build_inputs import Build, BuildInputs
from sphere_core.methods.method import Method
from sphere_core.methods.rows import RegularizerRow, function_of
from sphere_core.moments.record import SecondMoments
from sphere_core.regularizers.base import ReadOut, Regularizer
from sphere_core.regularizers.nas import AnchorSettings
from sphere_core.regularizers.scope import Scope
from sphere_core.solver.placement import Placement

__all__ = ["build_editor", "read_out", "update_filter"]


def build_editor(
    method: Method, hyperparameters: Hyperparameters, moments: SecondMoments | None, placement: Placement
) -> Editor:
    """Return the editor, with its priors made from the second moments where it needs them.

    `placement` says which layers' solvers run on the host. Raises InputError if moments are needed and not given.
    """
    if method.needs_moments(hyperparameters) and moments is None:
        raise InputError(f"method '{method.name}' needs second moments", remedy="build or import them")
    by_scope: dict[Scope, list[str]] = {scope: [] for scope in Scope}
    for name in method.regularizer_names:
        by_scope[method.scope_of(name)].append(name)
    shaping = Shaping(
        regularizers=[
            (name, update_filter(name, method.regularizer_row(name), hyperparameters))
            for name in (*by_scope[Scope.IN_LOOP], *by_scope[Scope.AFTER_BATCH])
        ],
        scope=method.editor_row.scope,
        error_feedback="error_feedback" in method.regularizer_names,
        feedback_ridge=hyperparameters.feedback_ridge or 0.0,
        reads_ahead=placement.reads_ahead,
    )
    anchor = None
    if "nas" in method.regularizer_names:
        anchor = AnchorSettings(hyperparameters.anchor_norm, hyperparameters.number("nas_factor"))
    build: Build = function_of(method.editor_row.build)
    editor = build(BuildInputs(hyperparameters, moments, shaping, anchor, placement))
    if "simie" in method.regularizer_names:
        ridge, start = hyperparameters.number("simie_lambda"), hyperparameters.simie_start
        editor = SimieEditor(editor, hyperparameters.places, ridge, from_unedited=start == "unedited")
    if by_scope[Scope.READ_OUT]:
        views = [read_out(name, method.regularizer_row(name), hyperparameters) for name in by_scope[Scope.READ_OUT]]
        editor = ReadOutEditor(editor, hyperparameters.places, views)
    if "gate" in method.regularizer_names:
        editor = GatedEditor(
            editor,
            hyperparameters.places,
            GateSettings(
                budget=hyperparameters.number("gate_budget"),
                anchors=int(hyperparameters.number("gate_anchors")),
                steps=int(hyperparameters.number("gate_steps")),
                measure=hyperparameters.gate_measure or "bits",
                search=hyperparameters.gate_search or "halving",
                min_scale=hyperparameters.gate_min_scale or 0.0,
            ),
        )
    return editor


def update_filter(name: str, row: RegularizerRow, hyperparameters: Hyperparameters) -> Regularizer:
    """Return the filter of updates of a regularizer's row; raises InputError if it has none."""
    if row.filter is None:
        raise InputError(f"'{name}' does not reshape updates")
    build: Callable[[Any], Regularizer] = function_of(row.filter)
    return build(_given(name, row, hyperparameters))


def read_out(name: str, row: RegularizerRow, hyperparameters: Hyperparameters) -> ReadOut:
    """Return the read-out of a regularizer's row; raises InputError if it has none."""
    if row.read_out is None:
        raise InputError(f"'{name}' cannot act on the read-out")
    build: Callable[[Any], ReadOut] = function_of(row.read_out)
    return build(_given(name, row, hyperparameters))


def _given(name: str, row: RegularizerRow, hyperparameters: Hyperparameters) -> Any:
    """Return what a row's functions take: the settings that it owns, or else the hyperparameters."""
    return hyperparameters if row.settings is None else hyperparameters.settings_of(name, row.settings)
