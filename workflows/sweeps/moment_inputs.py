"""The second moments of a sweep: imported from a file or the store and checked, or a recipe over a corpus."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sphere_core.foundation.errors import inside
from sphere_core.foundation.lazy import load_object
from sphere_core.moments.file_digests import FileDigests
from sphere_core.moments.spec import MomentsSpec
from workflows.moments.corpus_texts import find_corpus, require_texts
from workflows.moments.store import MomentsStore, store_folder
from workflows.store.corpus import Corpus
from workflows.sweeps.model_inputs import ResolvedModel
from workflows.sweeps.paths import resolve_path
from workflows.sweeps.spec import MomentsEntry

if TYPE_CHECKING:
    from sphere_core.moments.record import SecondMoments

__all__ = ["MomentInputs", "ResolvedMoments"]


# Known by itself: its specification holds a nested mapping, and ten thousand trajectories share a few.
@dataclass(frozen=True, eq=False)
class ResolvedMoments:
    """Second moments of one model: how trajectories name them, and the file if imported."""

    spec: MomentsSpec
    file: str | None


class MomentInputs:
    """Finds second moments; `folder` is the folder of the sweep file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._imported: dict[Path, SecondMoments] = {}
        self._corpora: dict[MomentsEntry, Corpus] = {}

    def find(
        self,
        entry: MomentsEntry,
        model: ResolvedModel,
        layers: tuple[int, ...],
        *,
        threads: int,
        where: str,
        gradients: bool = False,
    ) -> ResolvedMoments:
        """Return how second moments are named: by the digest of a file that was checked, or the recipe.

        `gradients`: those of output gradients are required too.
        """
        if entry.corpus is None:
            path = self.path(entry)
            if path not in self._imported:
                self._imported[path] = load_object("sphere_core.moments.files:read_moments")(path)
            sites = [model.outline.sites[layer] for layer in layers]
            check = load_object("sphere_core.moments.record:check_moments")
            named = f"{where}: {path}"
            check(self._imported[path], sites, where=named, model_digest=model.digest, gradients=gradients)
            digest = FileDigests.of(path, layers).digest(layers, where=str(path))
            return ResolvedMoments(MomentsSpec(file_digest=digest), str(path))
        with inside(where):
            corpus = self.corpus(entry)
            require_texts(corpus, entry.sentences or 1)
        recipe = MomentsSpec(
            corpus=_corpus_identity(corpus),
            tokens=entry.tokens,
            sentences=entry.sentences,
            seed=entry.seed,
            max_tokens_per_text=entry.max_tokens_per_text,
            model_digest=model.digest,
            dtype=model.entry.dtype,
            threads=threads,
            gradients=gradients or None,
        )
        return ResolvedMoments(recipe, None)

    def path(self, entry: MomentsEntry) -> Path:
        """Return the file or folder of imported moments: a path of the sweep file, or a set of the store."""
        if entry.stored is not None:
            return MomentsStore(store_folder(None)).locate(entry.stored)
        return resolve_path(str(entry.file), self._folder)

    def corpus(self, entry: MomentsEntry) -> Corpus:
        """Return the corpus that moments are built from; raises InputError if there is none, or it has no pin."""
        if entry not in self._corpora:
            self._corpora[entry] = find_corpus(
                (entry.corpus,) if isinstance(entry.corpus, str) else tuple(entry.corpus or ()),
                folder=self._folder,
                config=entry.config,
                revision=entry.revision,
                field=entry.field,
                seed=entry.seed,
                asks_hub=False,
            )
        return self._corpora[entry]


def _corpus_identity(corpus: Corpus) -> dict[str, Any]:
    """Return a corpus's part of a trajectory's identity; the seed of the fact world's corpus is a separate key."""
    if corpus.kind == "factworld":
        return {"world": corpus.identity()["world"]}
    if corpus.identity() == {"files": list(corpus.digests)} and len(corpus.digests) == 1:
        return {"file_digest": corpus.digests[0]}
    return corpus.identity()
