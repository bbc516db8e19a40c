"""What a sweep file names, found and checked: models, streams, second moments, contexts, evaluators.

Each input is read once per sweep, however many trajectories share it. Nothing is written and no weight is loaded.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sphere_core.datasets.sources import Dataset, DatasetSpec, read_dataset
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.fingerprint import file_digest, fingerprint
from sphere_core.foundation.lazy import load_object
from sphere_core.hyperparameters import Hyperparameters, build_hyperparameters, preset, read_hyperparameters
from sphere_core.locate.templates import read_contexts
from sphere_core.methods import Method, resolve_method
from sphere_core.models.outline import ModelOutline, describe_model
from sphere_core.models.source import EMBEDDED_MODEL, commit_of, model_digest, resolve_model
from sphere_core.requests import EditRequest, EncodedRequest, encode_request
from sphere_core.streams.stream import StreamSpec, stream_of
from workflows.moments.corpus_texts import find_corpus, require_texts
from workflows.moments.store import MomentsStore, store_folder
from workflows.store.corpus import Corpus
from workflows.sweeps.spec import ContextsEntry, MethodEntry, ModelEntry, MomentsEntry

if TYPE_CHECKING:
    from sphere_core.moments.record import SecondMoments

__all__ = ["Inputs", "ResolvedModel", "ResolvedMoments", "ResolvedStream", "resolve_path"]


@dataclass(frozen=True)
class ResolvedModel:
    """A model found on this machine: its entry, its pinned revision, its digest, and its outline."""

    entry: ModelEntry
    source: str
    revision: str | None
    digest: str
    outline: ModelOutline


# Known by itself: its identity is a nested mapping, and ten thousand trajectories share a few.
@dataclass(frozen=True, eq=False)
class ResolvedMoments:
    """Second moments of one model: their part of the identity of trajectories, and the file if imported."""

    identity: dict[str, Any]
    file: str | None


@dataclass(frozen=True)
class ResolvedStream:
    """A stream with its paths made absolute, and the digests of its ordered requests and of what only free generation
    reads."""

    spec: StreamSpec
    digest: str
    generation_digest: str | None


def resolve_path(path: str, folder: Path) -> Path:
    """Return a path of a sweep file, relative to that file's folder unless absolute."""
    return (folder / Path(path).expanduser()).resolve()


def method_of(entry: MethodEntry, preset_name: str, folder: Path, *, where: str) -> tuple[Method, Hyperparameters]:
    """Return a method with its hyperparameters, from the preset or the entry's file, checked against each other."""
    method = resolve_method(entry.name, where=where)
    if entry.file is None:
        if preset_name.endswith((".yaml", ".yml")):
            preset_name = str(resolve_path(preset_name, folder))
        values = preset(preset_name, method.editor_name, method.regularizer_names, dict(entry.hyperparameters))
    else:
        from_file = read_hyperparameters(resolve_path(entry.file, folder))
        merged = {**from_file.model_dump(exclude_none=True), **entry.hyperparameters}
        values = build_hyperparameters(merged, where=where)
    method.check(values, where=where)
    return method, values


@dataclass
class Inputs:
    """Reads what a sweep names, each input once. `folder` is the folder of the sweep file."""

    folder: Path
    # Many orders of the same requests cost their encoding once. By object, as hashing a request reads all of it; it is
    # kept beside what it was encoded to, so that no other object can take its id.
    _encoded: dict[int, tuple[EditRequest, EncodedRequest]] = field(default_factory=dict)
    _streams: dict[tuple[StreamSpec, int | None], ResolvedStream] = field(default_factory=dict)
    _datasets: dict[DatasetSpec, Dataset] = field(default_factory=dict)
    _imported: "dict[Path, SecondMoments]" = field(default_factory=dict)
    _corpora: dict[MomentsEntry, Corpus] = field(default_factory=dict)

    def model(self, entry: ModelEntry, *, where: str) -> ResolvedModel:
        """Find a model and its outline; raises InputError if it is missing or of no known family."""
        local = resolve_path(entry.source, self.folder)
        source = str(local) if entry.source != EMBEDDED_MODEL and local.is_dir() else entry.source
        try:
            folder = resolve_model(source, revision=entry.revision, remote_code=entry.trust_remote_code)
            outline = describe_model(folder, remote_code=entry.trust_remote_code)
        except InputError as error:
            raise InputError(error.what, where=f"{where}: {error.where}", remedy=error.remedy) from error
        digest = model_digest(folder, remote_code=entry.trust_remote_code)
        return ResolvedModel(entry, source, commit_of(folder) or entry.revision, digest, outline)

    def stream(self, spec: StreamSpec, seed: int, *, where: str) -> ResolvedStream:
        """Find a stream, read it and put it in order; raises InputError if it is missing, wrong or too short.

        The returned stream records the hash of its file, or the commit of its hub id.
        """
        located = spec.located(lambda path: str(resolve_path(path, self.folder)))
        key = (located, seed if spec.is_seeded else None)
        if key not in self._streams:
            try:
                dataset = self._dataset(located)
                requests = stream_of(dataset.records, located, seed)
            except InputError as error:
                raise InputError(error.what, where=f"{where}: {error.where}", remedy=error.remedy) from error
            revision = dataset.commit or located.revision
            pinned = located.model_copy(update={"sha256": dataset.sha256, "revision": revision})
            encoded = [self._encode(request) for request in requests]
            digests = EncodedRequest.digest(encoded), EncodedRequest.generation_digest(encoded)
            self._streams[key] = ResolvedStream(pinned, *digests)
        return self._streams[key]

    def _dataset(self, spec: StreamSpec) -> Dataset:
        source = DatasetSpec.model_validate(spec.model_dump(include=set(DatasetSpec.model_fields)))
        if source not in self._datasets:
            self._datasets[source] = read_dataset(source)
        return self._datasets[source]

    def _encode(self, request: EditRequest) -> EncodedRequest:
        known = self._encoded.get(id(request))
        if known is None:
            known = self._encoded[id(request)] = (request, encode_request(request))
        return known[1]

    def method(self, entry: MethodEntry, model: ResolvedModel, *, where: str) -> tuple[Method, Hyperparameters]:
        """Return a method with its hyperparameters, checked against each other and against the model."""
        method, values = method_of(entry, model.entry.preset, self.folder, where=where)
        model.outline.check(values, where=where)
        return method, values

    def contexts(self, entry: ContextsEntry) -> dict[str, Any]:
        """Return the contexts' part of an identity: how they are sampled, or the groups of a file."""
        if entry.file is not None:
            groups = read_contexts(resolve_path(entry.file, self.folder))
            return {"groups": [list(group) for group in groups]}
        return {"sampled": entry.model_dump(mode="json", exclude={"file"})}

    def moments(
        self, entry: MomentsEntry, model: ResolvedModel, layers: tuple[int, ...], *, threads: int, where: str
    ) -> ResolvedMoments:
        """Return the identity of second moments: the digest of a file that was checked, or the recipe."""
        if entry.corpus is None:
            path = self.moments_path(entry)
            if path not in self._imported:
                self._imported[path] = load_object("sphere_core.moments.files:read_moments")(path)
            sites = [model.outline.sites[layer] for layer in layers]
            check = load_object("sphere_core.moments.record:check_moments")
            check(self._imported[path], sites, where=f"{where}: {path}", model_digest=model.digest)
            return ResolvedMoments({"file_digest": _moments_digest(path, layers)}, str(path))
        corpus = self._checked_corpus(entry, where=where)
        identity = {
            "corpus": _corpus_identity(corpus),
            **({"tokens": entry.tokens} if entry.sentences is None else {"sentences": entry.sentences}),
            "seed": entry.seed,
            "max_tokens_per_text": entry.max_tokens_per_text,
            "model_digest": model.digest,
            "dtype": model.entry.dtype,
            "threads": threads,
        }
        return ResolvedMoments(identity, None)

    def moments_path(self, entry: MomentsEntry) -> Path:
        """Return the file or folder of imported moments: a path of the sweep file, or a set of the store."""
        if entry.stored is not None:
            return MomentsStore(store_folder(None)).locate(entry.stored)
        return resolve_path(str(entry.file), self.folder)

    def corpus(self, entry: MomentsEntry) -> Corpus:
        """Return the corpus that moments are built from; raises InputError if there is none, or it has no pin."""
        if entry not in self._corpora:
            self._corpora[entry] = find_corpus(
                (entry.corpus,) if isinstance(entry.corpus, str) else tuple(entry.corpus or ()),
                folder=self.folder,
                config=entry.config,
                revision=entry.revision,
                field=entry.field,
                seed=entry.seed,
                asks_hub=False,
            )
        return self._corpora[entry]

    def located_tasks(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return evaluator settings with files and folders made absolute; names of suites and tasks stay."""
        located = {**settings}
        if isinstance(settings.get("tasks"), list):
            located["tasks"] = [self._located_entry(entry) for entry in settings["tasks"]]
        if isinstance(settings.get("include_path"), list):
            located["include_path"] = [str(resolve_path(str(entry), self.folder)) for entry in settings["include_path"]]
        if isinstance(settings.get("corpus"), str):
            located["corpus"] = str(resolve_path(settings["corpus"], self.folder))
        return located

    def _located_entry(self, entry: Any) -> Any:
        """Return an entry of `tasks`, a name or a mapping with one; an existing path is made absolute."""
        if isinstance(entry, dict) and isinstance(entry.get("task"), str):
            return {**entry, "task": self._located_entry(entry["task"])}
        if not isinstance(entry, str):
            return entry
        path = resolve_path(entry, self.folder)
        return str(path) if path.exists() else entry

    def _checked_corpus(self, entry: MomentsEntry, *, where: str) -> Corpus:
        try:
            corpus = self.corpus(entry)
            require_texts(corpus, entry.sentences or 1)
        except InputError as error:
            raise InputError(error.what, where=f"{where}: {error.where}", remedy=error.remedy) from error
        return corpus


def _corpus_identity(corpus: Corpus) -> dict[str, Any]:
    """Return a corpus's part of a trajectory's identity; the seed of the fact world's corpus is a separate key."""
    if corpus.kind == "factworld":
        return {"world": corpus.identity()["world"]}
    if corpus.identity() == {"files": list(corpus.digests)} and len(corpus.digests) == 1:
        return {"file_digest": corpus.digests[0]}
    return corpus.identity()


def _moments_digest(path: Path, layers: tuple[int, ...]) -> str:
    """Return the digest of a moments file; of a folder, that of the files of these layers."""
    if path.is_file():
        return file_digest(path)
    return fingerprint({str(layer): file_digest(path / f"layer{layer}.safetensors") for layer in layers})
