"""Reading a sweep file: values of the command line, then its grids, then its fields."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from sphere_core.foundation.errors import InputError, unknown_name
from sphere_core.foundation.model_errors import as_input_error
from sphere_core.foundation.validation import BOOLEAN, BOOLEAN_REMEDY, misplaced_booleans
from sphere_core.foundation.yaml_files import Location, read_yaml
from sphere_core.plugins.found import NO_PLUGINS
from workflows.sweeps.grids import ENTRIES, GRID, SweepText, expanded
from workflows.sweeps.overrides import overridden, read_overrides
from workflows.sweeps.spec import EvaluatorsEntry, MethodEntry, SweepSpec

__all__ = ["read_sweep"]


def read_sweep(path: Path, overrides: Sequence[str] = ()) -> tuple[SweepSpec, SweepText]:
    """Read a sweep file; raises InputError with file, line, key and the nearest valid name.

    `overrides` are texts `PATH=VALUE` that replace values of the file. Also returns the text with its locations, for
    the errors of later checks (methods, files).
    """
    written = read_yaml(path)
    if not isinstance(written.data, dict):
        raise InputError("a sweep file holds keys and values", where=str(path), remedy="'sphere init' writes one")
    changed, given = overridden(written, read_overrides(overrides))
    text = expanded(changed, given=given)
    odd = next(misplaced_booleans(SweepSpec, text.data), None)
    if odd is not None:
        raise InputError(BOOLEAN, where=text.where(odd), remedy=BOOLEAN_REMEDY)
    try:
        spec = SweepSpec.model_validate(text.data)
    except ValidationError as error:
        raise as_input_error(error, SweepSpec, text, more_keys=_more_keys) from error
    _refuse_unknown_evaluators(spec, text)
    for index, method in enumerate(spec.methods):
        _check_own_settings(spec, method, text, ("methods", index))
    return spec, text


def _more_keys(location: tuple[str | int, ...]) -> tuple[str, ...]:
    """Return the keys that a part of a sweep file has besides its fields."""
    return (GRID,) if len(location) == 2 and location[0] in ENTRIES else ()


def _check_own_settings(spec: SweepSpec, method: MethodEntry, text: SweepText, place: Location) -> None:
    """Raise InputError for a method whose batches or amount of second moments do not go with the sweep's settings."""
    size = spec.batch_size_of(method)
    if spec.checkpoint_every % size:
        raise InputError(
            f"checkpoint_every ({spec.checkpoint_every}) must be a multiple of batch_size ({size}) of '{method.title}'",
            where=text.where((*place, "batch_size")),
            remedy="a checkpoint is written after whole batches: change one of the two",
        )
    if method.moments is not None and (spec.moments is None or spec.moments.corpus is None):
        raise InputError(
            f"'{method.title}' names an amount of second moments, and the sweep no corpus to take it from",
            where=text.where((*place, "moments")),
            remedy="add 'moments: {corpus: ...}' to the sweep, or leave the amount out",
        )


def _refuse_unknown_evaluators(spec: SweepSpec, text: SweepText) -> None:
    """Raise InputError for an evaluator that the release and installed packages lack, if there are no plugin files."""
    extra = spec.evaluators.model_extra or {}
    if not extra or spec.plugins:
        return
    known = [*EvaluatorsEntry.model_fields, *NO_PLUGINS.names("evaluator")]
    for kind in extra:
        if kind not in known:
            raise unknown_name("key", kind, known, where=text.where(("evaluators", kind)))
