"""A method by its name: an editor, with regularizers after plus signs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sphere_core.foundation.errors import InputError, nearest_name
from sphere_core.foundation.lazy import load_object
from sphere_core.hyperparameters import Hyperparameters, ReadPreset, fields_of, preset, preset_sections
from sphere_core.methods.editors import EDITORS
from sphere_core.methods.outside import check_plugin_rows, outside_editor, outside_regularizer, plugin_settings
from sphere_core.methods.regularizers import REGULARIZERS
from sphere_core.methods.rows import EditorRow, RegularizerRow
from sphere_core.plugins.found import NO_PLUGINS, FoundRow, Plugins
from sphere_core.plugins.reference import PluginReference
from sphere_core.plugins.settings import source_of
from sphere_core.regularizers.scope import Scope
from sphere_core.solver.placement import BESIDE_LAYERS, Placement

if TYPE_CHECKING:
    from sphere_core.editors.base import Editor
    from sphere_core.moments.record import SecondMoments

__all__ = ["Method", "example_names", "resolve_method"]


# Published systems that are refused by name.
_LEFT_OUT = {
    "meg": "MeG (arXiv 2512.14395) trains its generator on all facts at once, so that it has a single batch",
    "hype": "HYPE (arXiv 2505.18343) is not specified in public to the point where it could be built",
}


@dataclass(frozen=True)
class Method:
    """A named row: an editor and the regularizers on it, in order; `plugins` are the rows from outside the release."""

    name: str
    editor_name: str
    regularizer_names: tuple[str, ...]
    editor_row: EditorRow
    regularizer_rows: tuple[RegularizerRow, ...]
    plugins: tuple[FoundRow, ...] = ()

    def regularizer_row(self, name: str) -> RegularizerRow:
        """Return the row of one of the method's regularizers."""
        return self.regularizer_rows[self.regularizer_names.index(name)]

    @property
    def code(self) -> dict[str, PluginReference]:
        """The plugins whose rows the method has, by the row's name."""
        return {found.name: found.plugin.reference for found in self.plugins}

    @property
    def preset_editor(self) -> str | None:
        """The editor whose section of a preset the method starts from; None for a plugin's that names none."""
        return self.editor_row.preset if self.editor_name in self.code else self.editor_name

    @property
    def released_rows(self) -> tuple[str, ...]:
        """The names by which hyperparameters of the release belong to the method."""
        editor = () if self.preset_editor is None else (self.preset_editor,)
        return (*editor, *self.released_regularizers)

    @property
    def released_regularizers(self) -> tuple[str, ...]:
        """The regularizers that are part of the release."""
        return tuple(name for name in self.regularizer_names if name not in self.code)

    @property
    def edits_in_contexts(self) -> bool:
        """Whether editing reads each prompt in context templates, as the optimisation of targets does."""
        targets = self.preset_editor is not None and "v_lr" in fields_of([self.preset_editor])
        return targets or self.editor_row.in_contexts

    def from_preset(
        self, name: str, overrides: Mapping[str, Any] | None = None, *, read: ReadPreset = preset_sections
    ) -> Hyperparameters:
        """Return the preset's values for this method with overrides on top.

        An override named as a plugin's row is a mapping of that row's settings. Raises InputError as `preset` does.
        """
        shared, own = self.split(overrides or {})
        values = preset(name, self.preset_editor, self.released_regularizers, shared, read=read)
        return self.with_settings(values, own, where=f"preset '{name}' with overrides")

    def own_settings(self) -> list[tuple[str, str, Any, str]]:
        """Return the settings that plugins' rows own: row, key, default, and the default's source."""
        return [
            (found.name, key, field.get_default(call_default_factory=True), source_of(field))
            for found in self.plugins
            for key, field in (found.row.settings.model_fields if found.row.settings else {}).items()
        ]

    def split(self, overrides: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the overrides of the release's hyperparameters, and the settings of plugins' rows by row."""
        own = {name: value for name, value in overrides.items() if name in self.code}
        return {name: value for name, value in overrides.items() if name not in own}, own

    def with_settings(self, values: Hyperparameters, own: Mapping[str, Any], *, where: str) -> Hyperparameters:
        """Return hyperparameters with the settings of every plugin's row, checked and with defaults filled in."""
        settings = plugin_settings(self.plugins, own, where=where)
        return values.model_copy(update={"settings": settings}) if settings else values

    def needs_moments(self, hyperparameters: Hyperparameters) -> bool:
        """Return whether second moments are required before the first edit."""
        return self.editor_row.needs_moments(hyperparameters)

    def needs_gradients(self, hyperparameters: Hyperparameters) -> bool:
        """Return whether the second moments must hold those of output gradients."""
        return self.editor_row.needs_gradients and self.needs_moments(hyperparameters)

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
        rows = {name: row for name, row in rows.items() if name not in self.code}
        found = {name: row.revision(hyperparameters) for name, row in rows.items()}
        return {name: revision for name, revision in found.items() if revision > 1}

    def check(self, hyperparameters: Hyperparameters, *, where: str) -> None:
        """Raise InputError naming every hyperparameter that the method needs and is not given.

        What plugins build is made once, from these hyperparameters, and must have the methods of its kind.
        """
        missing: list[tuple[str, ...]] = []
        for requires in (self.editor_row.requires, *(row.requires for row in self.regularizer_rows)):
            for alternatives in requires:
                # False is how released FT files say that there is no box.
                values = {name: getattr(hyperparameters, name) for name in alternatives}
                given = [name for name, value in values.items() if value is not None and value is not False]
                if len(given) != 1 and alternatives not in missing:
                    missing.append(alternatives)
        self._check_sites(hyperparameters, where=where)
        if not missing:
            check_plugin_rows(self.plugins, hyperparameters)
            return
        names = ["' or '".join(alternatives) for alternatives in missing]
        listed = "', '".join(names)
        if len(missing) > 1:
            what = f"method '{self.name}' needs the hyperparameters '{listed}'"
        elif len(missing[0]) > 1:
            what = f"method '{self.name}' needs exactly one of '{names[0]}'"
        else:
            what = f"method '{self.name}' needs the hyperparameter '{names[0]}'"
        come = "" if self.editor_row.remedy is None else f"; {self.editor_row.remedy}"
        raise InputError(what, where=where, remedy=f"set '{listed}' in the hyperparameters{come}")

    def check_family(self, family: str, *, mixture: bool, where: str) -> None:
        """Raise InputError if the editor cannot write a model of this family: the experts of a mixture, or without."""
        able = self.editor_row.on_experts
        if able == "also" or mixture == (able == "only"):
            return
        fits = [
            name for name, row in EDITORS.items() if row.on_experts == "also" or (row.on_experts == "only") == mixture
        ]
        reason = (
            f"writes one matrix of a layer, and a layer of the family '{family}' is a mixture of experts"
            if mixture
            else f"writes the experts of a mixture, and the family '{family}' has none"
        )
        remedy = f"editors for this model: {', '.join(fits)}" if mixture else "use alphaedit, its like for one matrix"
        raise InputError(f"'{self.editor_name}' {reason}", where=where, remedy=remedy)

    def _check_sites(self, hyperparameters: Hyperparameters, *, where: str) -> None:
        """Raise InputError if sites are named and the editor's formula holds at down projections only."""
        editor = self.preset_editor
        if hyperparameters.sites is None or editor is None or "sites" in fields_of([editor]):
            return
        able = [name for name in EDITORS if "sites" in fields_of([name])]
        reason = "writes what a layer adds to the residual stream: only its down projection does"
        if "v_lr" not in fields_of([editor]):
            reason = "is defined at down projections: second moments and features are theirs"
        raise InputError(
            f"'{self.editor_name}' {reason}",
            where=f"{where}, hyperparameter 'sites'",
            remedy=f"leave 'sites' out and give 'layers', or use an editor for any site: {', '.join(able)}",
        )

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
        row = self.regularizer_row(regularizer)
        if row.scope is not None:
            return row.scope
        before = self.regularizer_names[: self.regularizer_names.index(regularizer)]
        if any(self.regularizer_row(name).scope is Scope.READ_OUT for name in before):
            return Scope.READ_OUT
        return self.editor_row.scope


def resolve_method(name: str, *, where: str | None = None, plugins: Plugins = NO_PLUGINS) -> Method:
    """Return the method of a name such as `memit+rect+sphere`.

    Names that the release does not have are looked up in `plugins` and in installed packages. Raises InputError with
    the nearest valid name, with the reason why a combination makes no method, or for a faulty plugin.
    """
    plugins.refuse_taken({"editor": EDITORS, "regularizer": REGULARIZERS})
    editor, *regularizers = name.split("+")
    found = {part: plugins.find("regularizer", part) for part in regularizers if part not in REGULARIZERS}
    if editor not in EDITORS:
        found[editor] = plugins.find("editor", editor)
    if None in found.values():
        raise _unknown(name, plugins, where=where)
    outside = {part: one for part, one in found.items() if one is not None}
    editor_row = outside_editor(outside[editor]) if editor in outside else EDITORS[editor]
    rows = {
        part: outside_regularizer(outside[part]) if part in outside else REGULARIZERS[part] for part in regularizers
    }
    if len(rows) != len(regularizers):
        raise InputError(f"method '{name}' names a regularizer twice", where=where, remedy="name each once")
    _refuse_combination(name, editor_row, rows, where=where)
    return Method(name, editor, tuple(regularizers), editor_row, tuple(rows.values()), tuple(outside.values()))


def _unknown(name: str, plugins: Plugins, *, where: str | None) -> InputError:
    reason = _LEFT_OUT.get(name.split("+")[0].lower())
    if reason is not None:
        return InputError(
            f"'{name}' cannot be a method here: {reason}",
            where=where,
            remedy="score what its own code has made: units of an MLP with the method 'neurons', changed weights as a "
            "model with the method 'unedited' (docs/methods.md)",
        )
    editors, regularizers = plugins.names("editor"), plugins.names("regularizer")
    editor = name.split("+")[0]
    near = nearest_name(name, [*example_names(), *editors, *(f"{editor}+{other}" for other in regularizers)])
    hint = f"did you mean '{near}'? " if near else ""
    known = f"editors: {', '.join([*EDITORS, *editors])}; after a plus: {', '.join([*REGULARIZERS, *regularizers])}"
    return InputError(f"unknown method '{name}'", where=where, remedy=f"{hint}{known}")


def _refuse_combination(name: str, editor: EditorRow, rows: Mapping[str, RegularizerRow], *, where: str | None) -> None:
    if rows and not editor.writes_requests:
        name = name.split("+")[0]
        raise InputError(
            f"'{name}' writes no requests, so that no regularizer applies to it", where=where, remedy=f"use '{name}'"
        )
    if rows and editor.attaches:
        name = name.split("+")[0]
        raise InputError(
            f"'{name}' changes no weight: there is no update that '{next(iter(rows))}' could reshape",
            where=where,
            remedy=f"use '{name}'",
        )
    for part, row in rows.items():
        if row.needs not in (None, *editor.gives):
            raise InputError(
                f"'{part}' needs {row.needs}, which '{name.split('+')[0]}' does not have",
                where=where,
                remedy=f"editors that do: {', '.join(e for e, other in EDITORS.items() if row.needs in other.gives)}",
            )
    read_out = [row.scope is Scope.READ_OUT for row in rows.values()]
    if any(read_out) and any(part != "sphere" for part in [*rows][read_out.index(True) + 1 :] if part != "gate"):
        raise InputError(f"in '{name}', only sphere can follow a read-out regularizer", where=where)
    if "error_feedback" in rows and not any(row.filter is not None for row in rows.values()):
        raise InputError(f"'{name}' has no regularizer whose error could be fed back", where=where)


def example_names() -> list[str]:
    """Return every editor, alone and with each single regularizer it can carry."""
    names = list(EDITORS)
    for editor, row in EDITORS.items():
        if row.attaches:
            continue
        for regularizer, entry in REGULARIZERS.items():
            if row.writes_requests and regularizer != "error_feedback" and entry.needs in (None, *row.gives):
                names.append(f"{editor}+{regularizer}")
    return names
