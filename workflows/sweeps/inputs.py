"""What a sweep file names, found and checked: models, methods, streams, second moments, contexts.

Each input is read once per sweep, however many trajectories share it. Nothing is written and no weight is loaded.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sphere_core.editors.memory.companion_folders import require_same_tokens, with_companions
from sphere_core.editors.memory.neuron_file import require_place
from sphere_core.foundation.errors import InputError, inside
from sphere_core.hyperparameters import (
    Hyperparameters,
    ReadPreset,
    build_hyperparameters,
    fields_of,
    held_out_facts,
    preset_misfit,
    preset_sections,
    read_hyperparameters,
)
from sphere_core.locate.templates import ContextSettings, ContextsSpec, GivenContexts, SampledContexts, read_contexts
from sphere_core.methods import Method, resolve_method
from sphere_core.plugins.found import NO_PLUGINS, Plugins
from workflows.sweeps.model_inputs import ModelInputs, ResolvedModel
from workflows.sweeps.moment_inputs import MomentInputs
from workflows.sweeps.paths import resolve_path
from workflows.sweeps.spec import ContextsEntry, MethodEntry, ModelEntry
from workflows.sweeps.stream_inputs import StreamInputs

__all__ = ["Inputs", "method_of", "of_published_file"]


def method_of(
    entry: MethodEntry,
    preset_name: str,
    folder: Path,
    *,
    where: str,
    plugins: Plugins = NO_PLUGINS,
    read: ReadPreset = preset_sections,
) -> tuple[Method, Hyperparameters, tuple[str, ...]]:
    """Return a method with its hyperparameters, from the preset or the entry's file, checked against each other.

    Notes say what was taken from the method's release because the file does not have it.
    """
    method = resolve_method(entry.name, where=where, plugins=plugins)
    _refuse_others(method, entry.hyperparameters, where=where)
    notes: tuple[str, ...] = ()
    if entry.file is None:
        if preset_name.endswith((".yaml", ".yml")):
            preset_name = str(resolve_path(preset_name, folder))
        with inside(where):
            values = method.from_preset(preset_name, entry.hyperparameters, read=read)
    else:
        path = resolve_path(entry.file, folder)
        with inside(where):
            values, notes = of_published_file(method, path, entry.hyperparameters, where=where)
    method.check(values, where=where)
    return method, values, notes


def _refuse_others(method: Method, given: Mapping[str, Any], *, where: str) -> None:
    """Raise InputError for hyperparameters of other methods alone: they would change an id, and no number."""
    usable = fields_of(method.released_rows)
    odd = [name for name in given if name in Hyperparameters.model_fields and name not in usable]
    if odd:
        raise InputError(
            f"'{odd[0]}' is not a hyperparameter of '{method.name}'",
            where=f"{where}, key {odd[0]}",
            remedy=f"leave it out; 'sphere methods {method.name}' shows those of the method",
        )


def of_published_file(
    method: Method, path: Path, overrides: Mapping[str, Any], *, where: str
) -> tuple[Hyperparameters, tuple[str, ...]]:
    """Return a method's hyperparameters from a published file, with overrides on top, and what was taken from the
    method's release because the file does not have it."""
    rows = method.released_rows
    released = read_hyperparameters(path, rows)
    shared, own = method.split(overrides)
    merged = {**released.values.model_dump(exclude_none=True), **shared}
    values = method.with_settings(build_hyperparameters(merged, where=where, rows=rows), own, where=where)
    return values, tuple(note for note in released.notes if note.split(" = ")[0] not in overrides)


def _misfit(model: ResolvedModel, folder: Path, read: ReadPreset) -> str | None:
    """Return how a model differs from the one that its preset was made for, and what to do, or None."""
    name = model.entry.preset
    path = str(resolve_path(name, folder)) if name.endswith((".yaml", ".yml")) else name
    site = model.outline.sites[0]
    family, layers = model.outline.family.name, len(model.outline.sites)
    found = preset_misfit(path, family=family, layers=layers, d_out=site.d_out, d_in=site.d_in, read=read)
    return None if found is None else f"{model.entry.label}: {found}; 'sphere calibrate' finds values for this model"


@dataclass(frozen=True)
class Inputs:
    """The look-ups of one sweep; `folder` is the folder of the sweep file."""

    folder: Path
    models: ModelInputs
    streams: StreamInputs
    moments: MomentInputs
    plugins: Plugins
    # What the user should know of the inputs, in order and each once; nothing is wrong with them.
    notes: dict[str, None]
    read_preset: ReadPreset

    @classmethod
    def of(cls, folder: Path, plugins: Plugins = NO_PLUGINS, models: Sequence[ModelEntry] = ()) -> "Inputs":
        """Return look-ups that have read nothing yet; `plugins` and `models` are those that the sweep file names."""
        read = functools.cache(preset_sections)
        # A calibrated preset is a file; the shipped ones hold nothing out.
        files = {entry.preset for entry in models if entry.preset.endswith((".yaml", ".yml"))}
        paths = sorted(str(resolve_path(name, folder)) for name in files)
        held_out = functools.cache(lambda: frozenset[str]().union(*(held_out_facts(path, read=read) for path in paths)))
        streams = StreamInputs(folder, plugins, held_out)
        return cls(folder, ModelInputs(folder, plugins), streams, MomentInputs(folder), plugins, {}, read)

    def method(self, entry: MethodEntry, model: ResolvedModel, *, where: str) -> tuple[Method, Hyperparameters]:
        """Return a method with its hyperparameters, checked against each other and against the model."""
        method, values, notes = method_of(
            entry, model.entry.preset, self.folder, where=where, plugins=self.plugins, read=self.read_preset
        )
        self.notes.update(dict.fromkeys(f"{entry.title}: {note}" for note in notes))
        if entry.file is None and (misfit := _misfit(model, self.folder, self.read_preset)) is not None:
            self.notes[misfit] = None
        family = model.outline.family
        method.check_family(family.name, mixture=family.mixture, where=where)
        model.outline.check(values, where=where)
        with inside(where):
            values = with_companions(values, self.folder)
            require_same_tokens(values, model.folder)
            if values.neurons_file is not None:
                sites = model.outline.sites
                require_place(Path(values.neurons_file), layers=len(sites), width=sites[0].d_out)
        return method, values

    def contexts(self, entry: ContextsEntry) -> ContextsSpec:
        """Return the contexts of every trajectory: how they are sampled, or the groups of a file."""
        if entry.file is not None:
            return GivenContexts(groups=read_contexts(resolve_path(entry.file, self.folder)))
        return SampledContexts(sampled=ContextSettings(**entry.model_dump(exclude={"file"})))
