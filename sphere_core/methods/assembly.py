"""Putting an editor together: its own build, the regularizers on its updates, and the wrappers around it."""

from collections.abc import Callable

from sphere_core.editors.base import Editor
from sphere_core.editors.shaping import Shaping
from sphere_core.editors.wrappers.gate import GatedEditor, GateSettings
from sphere_core.editors.wrappers.read_out import ReadOutEditor
from sphere_core.editors.wrappers.simie import SimieEditor
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.lazy import load_object
from sphere_core.hyperparameters import Hyperparameters
from sphere_core.methods.method import Method
from sphere_core.methods.regularizers import REGULARIZERS
from sphere_core.moments.record import SecondMoments
from sphere_core.regularizers.base import ReadOut, Regularizer
from sphere_core.regularizers.nas import AnchorSettings
from sphere_core.regularizers.scope import Scope
from sphere_core.solver.placement import Placement

__all__ = ["Build", "build_editor"]

Build = Callable[[Hyperparameters, SecondMoments | None, Shaping, AnchorSettings | None, Placement], Editor]


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
            (name, _update_filter(name, hyperparameters))
            for name in (*by_scope[Scope.IN_LOOP], *by_scope[Scope.AFTER_BATCH])
        ],
        scope=method.editor_row.scope,
        error_feedback="error_feedback" in method.regularizer_names,
        feedback_ridge=hyperparameters.feedback_ridge or 0.0,
    )
    anchor = None
    if "nas" in method.regularizer_names:
        anchor = AnchorSettings(hyperparameters.anchor_norm, hyperparameters.number("nas_factor"))
    build: Build = load_object(method.editor_row.build)
    editor = build(hyperparameters, moments, shaping, anchor, placement)
    if "simie" in method.regularizer_names:
        ridge, start = hyperparameters.number("simie_lambda"), hyperparameters.simie_start
        editor = SimieEditor(editor, hyperparameters.layers, ridge, from_unedited=start == "unedited")
    if by_scope[Scope.READ_OUT]:
        read_outs = [_read_out(name, hyperparameters) for name in by_scope[Scope.READ_OUT]]
        editor = ReadOutEditor(editor, hyperparameters.layers, read_outs)
    if "gate" in method.regularizer_names:
        editor = GatedEditor(
            editor,
            hyperparameters.layers,
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


def _update_filter(name: str, hyperparameters: Hyperparameters) -> Regularizer:
    place = REGULARIZERS[name].filter
    if place is None:
        raise InputError(f"'{name}' does not reshape updates")
    build: Callable[[Hyperparameters], Regularizer] = load_object(place)
    return build(hyperparameters)


def _read_out(name: str, hyperparameters: Hyperparameters) -> ReadOut:
    place = REGULARIZERS[name].read_out
    if place is None:
        raise InputError(f"'{name}' cannot act on the read-out")
    build: Callable[[Hyperparameters], ReadOut] = load_object(place)
    return build(hyperparameters)
