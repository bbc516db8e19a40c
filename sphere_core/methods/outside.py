"""Rows of the method table from plugins: checked before anything runs, each fault with its plugin and a remedy."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.lazy import load_object
from sphere_core.hyperparameters import Hyperparameters
from sphere_core.methods.rows import EditorRow, RegularizerRow
from sphere_core.plugins.found import FoundRow
from sphere_core.plugins.module import TABLES
from sphere_core.plugins.settings import RowSettings, read_settings, settings_faults
from sphere_core.regularizers.scope import Scope

if TYPE_CHECKING:
    from sphere_core.methods.build_inputs import BuildInputs

__all__ = ["check_plugin_rows", "outside_editor", "outside_regularizer", "plugin_settings"]

# What a filter and a read-out must have, with the parameters that they are called with.
_FILTER = {"apply": ("update", "write", "state"), "remember": ("write", "state")}
_READ_OUT = {"view": ("change", "base", "site_name")}
# What a plugin's build is called with: the fields of `BuildInputs`.
_BUILD = ("hyperparameters", "moments", "shaping", "anchor", "placement")


@dataclass(frozen=True)
class _PluginBuild:
    """A plugin's build in the form of the release's: called with one record, it passes the fields on by place."""

    function: Callable[..., Any]

    def __call__(self, inputs: "BuildInputs") -> Any:
        return self.function(*(getattr(inputs, name) for name in _BUILD))


def outside_editor(found: FoundRow) -> EditorRow:
    """Return a plugin's editor row, its build in the form of the release's.

    Raises InputError if it is not an editor row, or names what it may not.
    """
    row = found.row
    if not isinstance(row, EditorRow):
        raise _fault(
            found, "editor", f"is a {_kind(row)}, not an EditorRow", "EditorRow(title=..., paper=..., build=...)"
        )
    if not callable(row.build):
        raise _fault(found, "editor", "has no function as its `build`", "build=a function that returns the editor")
    taken = _parameters(row.build)
    if not _accepts(row.build, len(_BUILD)):
        wanted = f"({', '.join(_BUILD)})"
        raise _fault(found, "editor", f"has a `build` with the parameters {taken}", f"it is called with {wanted}")
    _check_row(found, "editor", row)
    return replace(row, build=_PluginBuild(row.build))


def outside_regularizer(found: FoundRow) -> RegularizerRow:
    """Return a plugin's regularizer row; raises InputError if it is not one, or has neither filter nor read-out."""
    row, kind = found.row, "regularizer"
    if not isinstance(row, RegularizerRow):
        example = "RegularizerRow(title=..., paper=..., settings=..., filter=...)"
        raise _fault(found, kind, f"is a {_kind(row)}, not a RegularizerRow", example)
    acts = [function for function in (row.filter, row.read_out) if function is not None]
    if not acts:
        raise _fault(
            found, kind, "has neither `filter` nor `read_out`", "give the class that reshapes updates as `filter`"
        )
    for function in acts:
        if not callable(function) or not _accepts(function, 1):
            taken = _parameters(function)
            remedy = "`filter` is called with one argument: the row's settings, or the hyperparameters if it has none"
            raise _fault(found, kind, f"has a `filter` or `read_out` with the parameters {taken}", remedy)
    if row.scope is Scope.TARGETS or (row.scope is Scope.READ_OUT) != (row.read_out is not None and row.filter is None):
        remedy = "scope=Scope.READ_OUT goes with `read_out`, Scope.IN_LOOP, Scope.AFTER_BATCH or None with `filter`"
        raise _fault(found, kind, f"acts {row.scope.value if row.scope else 'as the editor'} without a way to", remedy)
    _check_row(found, kind, row)
    return row


def plugin_settings(plugins: Sequence[FoundRow], own: Mapping[str, Any], *, where: str) -> dict[str, dict[str, Any]]:
    """Return the settings of every plugin's row that has some, as plain data with defaults filled in."""
    filled: dict[str, dict[str, Any]] = {}
    for found in plugins:
        kind, given = found.row.settings, own.get(found.name) or {}
        if not isinstance(given, Mapping):
            raise InputError(
                f"the settings of '{found.name}' are {given!r:.40}", where=where, remedy=f"{found.name}: {{KEY: VALUE}}"
            )
        if kind is None:
            kind = RowSettings
        filled[found.name] = read_settings(kind, given, owner=found.name, where=where).model_dump(mode="json")
    return {name: values for name, values in filled.items() if values}


def check_plugin_rows(plugins: Sequence[FoundRow], hyperparameters: Hyperparameters) -> None:
    """Make what each plugin's regularizer row builds, once; raises InputError if it raises or lacks a method."""
    for found in plugins:
        row = found.row
        if not isinstance(row, RegularizerRow):
            continue
        for build, wanted, needed in (("update_filter", row.filter, _FILTER), ("read_out", row.read_out, _READ_OUT)):
            if wanted is None:
                continue
            try:
                made = load_object(f"sphere_core.methods.assembly:{build}")(found.name, row, hyperparameters)
            except InputError:
                raise
            except Exception as error:  # whatever the plugin's own code raises
                what = f"cannot be made from its settings: {type(error).__name__}: {error}"
                raise _fault(found, "regularizer", what, "correct its constructor") from error
            _require_methods(found, made, needed)


def _require_methods(found: FoundRow, made: object, needed: Mapping[str, tuple[str, ...]]) -> None:
    for name, parameters in needed.items():
        method = getattr(made, name, None)
        wanted = f"def {name}(self, {', '.join(parameters)})"
        if not callable(method):
            hint = "; derive it from sphere_core.regularizers.Stateless if it keeps no state" * (name == "remember")
            raise _fault(found, "regularizer", f"makes a {_kind(made)} without `{name}`", f"define {wanted}{hint}")
        if not _accepts(method, len(parameters)):
            what = f"has `{name}` with the parameters {_parameters(method)}"
            raise _fault(found, "regularizer", what, f"write {wanted}")


def _check_row(found: FoundRow, kind: str, row: EditorRow | RegularizerRow) -> None:
    unknown = {name for names in row.requires for name in names} - set(Hyperparameters.model_fields)
    if unknown:
        what = f"requires the hyperparameters {', '.join(sorted(unknown))}, which the release does not have"
        raise _fault(found, kind, what, "make them fields of the row's own settings")
    if row.settings is None:
        return
    if not (isinstance(row.settings, type) and issubclass(row.settings, BaseModel)):
        raise _fault(
            found, kind, "has settings that are not a class", "derive a class from sphere_core.plugins.RowSettings"
        )
    faults = settings_faults(row.settings)
    if faults:
        remedy = "write KEY: TYPE = setting(DEFAULT, description='...', source='paper and table, or why')"
        raise _fault(found, kind, f"has settings that say too little: {'; '.join(faults)}", remedy)


def _fault(found: FoundRow, kind: str, what: str, remedy: str) -> InputError:
    where = f"{found.plugin.place}, {TABLES[kind]}['{found.name}']"
    return InputError(
        f"the {kind} '{found.name}' of the plugin '{found.plugin.reference.name}' {what}", where=where, remedy=remedy
    )


def _accepts(function: Any, count: int) -> bool:
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:  # a builtin without a signature
        return True
    return True


def _parameters(function: Any) -> str:
    try:
        return str(inspect.signature(function))
    except (TypeError, ValueError):
        return "(unknown)"


def _kind(value: object) -> str:
    return "class" if isinstance(value, type) else type(value).__name__
