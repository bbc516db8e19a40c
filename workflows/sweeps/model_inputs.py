"""The models of a sweep: found, pinned and described without loading a weight."""

from dataclasses import dataclass
from pathlib import Path

from sphere_core.foundation.errors import inside
from sphere_core.models.outline import ModelOutline, describe_model
from sphere_core.models.source import EMBEDDED_MODEL, commit_of, model_digest, resolve_model
from workflows.sweeps.paths import resolve_path
from workflows.sweeps.spec import ModelEntry

__all__ = ["ModelInputs", "ResolvedModel"]


@dataclass(frozen=True)
class ResolvedModel:
    """A model found on this machine: its entry, its pinned revision, its digest, and its outline."""

    entry: ModelEntry
    source: str
    revision: str | None
    digest: str
    outline: ModelOutline


class ModelInputs:
    """Finds models; `folder` is the folder of the sweep file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, entry: ModelEntry, *, where: str) -> ResolvedModel:
        """Find a model and its outline; raises InputError if it is missing or of no known family."""
        local = resolve_path(entry.source, self._folder)
        source = str(local) if entry.source != EMBEDDED_MODEL and local.is_dir() else entry.source
        with inside(where):
            folder = resolve_model(source, revision=entry.revision, remote_code=entry.trust_remote_code)
            outline = describe_model(folder, remote_code=entry.trust_remote_code)
        digest = model_digest(folder, remote_code=entry.trust_remote_code)
        return ResolvedModel(entry, source, commit_of(folder) or entry.revision, digest, outline)
