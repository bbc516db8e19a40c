"""The models of a sweep: found, pinned and described without loading a weight."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sphere_core.foundation.errors import inside
from sphere_core.foundation.lazy import load_object
from sphere_core.locate.templates import ContextsSpec, GivenContexts, SampledContexts
from sphere_core.models.outline import ModelOutline, describe_model
from sphere_core.models.source import EMBEDDED_MODEL, commit_of, model_digest, resolve_model
from sphere_core.models.weight_headers import check_weights
from sphere_core.plugins.found import NO_PLUGINS, Plugins
from sphere_core.streams.lengths import ReadingRoom, sampled_tokens
from workflows.sweeps.paths import resolve_path
from workflows.sweeps.spec import ModelEntry

__all__ = ["ModelInputs", "ResolvedModel", "reading_room"]


@dataclass(frozen=True)
class ResolvedModel:
    """A model found on this machine: its entry, its pinned revision, its digest, and its outline."""

    entry: ModelEntry
    source: str
    revision: str | None
    digest: str
    outline: ModelOutline

    @property
    def folder(self) -> Path:
        """The model's local folder."""
        return resolve_model(self.source, revision=self.revision, remote_code=self.entry.trust_remote_code)


def reading_room(model: ResolvedModel, contexts: ContextsSpec, *, edits_in_contexts: bool) -> ReadingRoom | None:
    """Return what a model can read at once, or None if its config says nothing of positions.

    Its tokenizer is loaded only if a text may be too long. `contexts` are how templates are sampled, or the templates.
    """
    if model.outline.positions is None:
        return None
    folder = model.folder
    templates: tuple[str, ...] = ("{}",)
    if edits_in_contexts and isinstance(contexts, GivenContexts):
        templates = tuple(text for group in contexts.groups for text in group)
    loaded: list[Any] = []

    def count(text: str) -> int:
        if not loaded:
            load = load_object("sphere_core.models.loading:load_tokenizer")
            loaded.append(load(folder, remote_code=model.entry.trust_remote_code))
        return len(load_object("sphere_core.locate.prompts:text_ids")(loaded[0], text))

    sampled = contexts.sampled if edits_in_contexts and isinstance(contexts, SampledContexts) else None
    return ReadingRoom(model.outline.positions, count, templates, sampled_tokens(sampled, count))


class ModelInputs:
    """Finds models; `folder` is the folder of the sweep file, `plugins` may bring families."""

    def __init__(self, folder: Path, plugins: Plugins = NO_PLUGINS) -> None:
        self._folder, self._plugins = folder, plugins

    def find(self, entry: ModelEntry, *, where: str) -> ResolvedModel:
        """Find a model and its outline; raises InputError if it is missing, damaged or of no known family."""
        local = resolve_path(entry.source, self._folder)
        source = str(local) if entry.source != EMBEDDED_MODEL and local.is_dir() else entry.source
        with inside(where):
            folder = resolve_model(source, revision=entry.revision, remote_code=entry.trust_remote_code)
            outline = describe_model(folder, remote_code=entry.trust_remote_code, plugins=self._plugins)
            check_weights(folder, outline.sites)
        digest = outline.family.digest_of(model_digest(folder, remote_code=entry.trust_remote_code))
        return ResolvedModel(entry, source, commit_of(folder) or entry.revision, digest, outline)
