"""What a trajectory needs, loaded and checked: a model, a stream of edit requests, a method, second moments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sphere_core.datasets.sources import Dataset, DatasetSpec, read_dataset
from sphere_core.editors.memory.companion_folders import with_companions
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.validation import validated
from sphere_core.hyperparameters import Hyperparameters
from sphere_core.methods import Method
from sphere_core.models import EditableModel
from sphere_core.models import load_model as load_editable
from sphere_core.models.devices import pick_device
from sphere_core.models.source import commit_of, resolve_model
from sphere_core.moments.file_digests import FileDigests
from sphere_core.moments.files import joined, read_moments
from sphere_core.moments.record import SecondMoments, check_moments
from sphere_core.requests import EditRequest
from sphere_core.streams.stream import StreamSpec, stream_of
from sphere_core.trajectory import check_against_model
from workflows.moments.store import MomentsStore, store_folder
from workflows.runs.moments import BuildOptions, run_build
from workflows.sweeps.inputs import method_of
from workflows.sweeps.spec import EMBEDDED, MethodEntry, MomentsEntry

__all__ = [
    "ChosenMethod",
    "LoadedModel",
    "LoadedStream",
    "build_moments",
    "load_dataset",
    "load_method",
    "load_model",
    "load_moments",
    "load_stream",
    "read_identified_moments",
]


@dataclass(frozen=True)
class LoadedModel:
    """A causal language model that can be edited, and how it was named.

    `editable` holds fp32 masters of the edited sites; `network` and `tokenizer` are the Hugging Face objects, and the
    network is whatever the last edit made of it. `preset` is where methods take their hyperparameters from.
    """

    editable: EditableModel
    source: str
    dtype: str
    preset: str | None
    revision: str | None
    remote_code: bool

    @property
    def network(self) -> PreTrainedModel:
        """The Hugging Face model, in the dtype in which it was loaded."""
        return self.editable.network

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The Hugging Face tokenizer."""
        return self.editable.tokenizer


@dataclass(frozen=True)
class LoadedStream:
    """Edit requests in the order in which they are edited; `seed` is also that of the context templates."""

    spec: StreamSpec
    seed: int
    requests: tuple[EditRequest, ...]


@dataclass(frozen=True)
class ChosenMethod:
    """An editor with its regularizers, and hyperparameters that were checked against it and the model."""

    method: Method
    hyperparameters: Hyperparameters


def load_model(
    *,
    source: str,
    dtype: str | None = None,
    preset: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    device: str = "auto",
) -> LoadedModel:
    """Load a model by folder, hub id, or `factworld` for the embedded one, which alone has a dtype and a preset.

    `dtype` is float32, bfloat16 or float16; edited weights are float32 in any case. `preset` names hyperparameters or
    a YAML file of them. `device` is a torch device, `auto`, or `split` for all accelerators of the process. Raises
    InputError if the model is missing, is of no known family, or has no dtype.
    """
    defaults = EMBEDDED if source == EMBEDDED["source"] else {}
    chosen = dtype or defaults.get("dtype")
    if chosen is None:
        raise InputError(
            "a model needs a dtype: it is never taken from the files",
            where=f"load_model, source '{source}'",
            remedy="dtype='float32', 'bfloat16' or 'float16'",
        )
    folder = resolve_model(source, revision=revision, remote_code=trust_remote_code)
    editable = load_editable(str(folder), dtype=chosen, device=pick_device(device), remote_code=trust_remote_code)
    known = commit_of(folder) or revision
    return LoadedModel(editable, source, chosen, preset or defaults.get("preset"), known, trust_remote_code)


def load_dataset(*, dataset: str, **fields: object) -> Dataset:
    """Read a data set of edit requests, checked record by record.

    `dataset` is a schema (counterfact, multi_counterfact, zsre, mquake, facts) or factworld; `fields` are the other
    keys of `DatasetSpec`: `path`, or `hub` with `revision`, and more. Raises InputError naming file, record and field.
    """
    return read_dataset(validated(DatasetSpec, {"dataset": dataset, **fields}, where="load_dataset"))


def load_stream(*, dataset: str, edits: int, seed: int, **fields: object) -> LoadedStream:
    """Read a data set and put `edits` of its requests in order.

    `fields` are the other keys of a sweep's `streams`: `order` (canonical, shuffled, {"clustered": "relation"}, ...),
    `path`, `hub`, `conflicts` and more; `seed` is that of the order and of the context templates. Raises InputError
    for a wrong data set, an unknown key, or too few records.
    """
    spec = validated(StreamSpec, {"dataset": dataset, "edits": edits, **fields}, where="load_stream")
    found = read_dataset(validated(DatasetSpec, spec.model_dump(include=set(DatasetSpec.model_fields)), where=""))
    return LoadedStream(spec, seed, stream_of(found.records, spec, seed))


def load_method(
    *,
    name: str,
    model: LoadedModel,
    hyperparameters: Mapping[str, Any] | None = None,
    preset: str | None = None,
    file: str | None = None,
) -> ChosenMethod:
    """Return a method (`memit`, `alphaedit+sphere`) with hyperparameters for a model.

    They come from the model's preset, from another `preset`, or from `file` (MEMIT-style JSON); `hyperparameters`
    override single ones. Raises InputError if one is unknown, missing or does not fit the method or the model.
    """
    values = {"name": name, "file": file, "hyperparameters": dict(hyperparameters or {})}
    entry = validated(MethodEntry, values, where="load_method")
    chosen = preset or model.preset
    if chosen is None and file is None:
        raise InputError(
            f"the model '{model.source}' has no preset",
            where="load_method",
            remedy="give preset='NAME' or a YAML file ('sphere methods' lists presets), or file='HPARAMS.json'",
        )
    where = f"method '{name}'"
    method, checked, _ = method_of(entry, str(chosen), Path.cwd(), where=where)
    check_against_model(checked, model.editable, where=where)
    return ChosenMethod(method, with_companions(checked, Path.cwd()))


def load_moments(*, source: str | Path, model: LoadedModel, method: ChosenMethod) -> SecondMoments:
    """Read second moments from a file, a folder or a key of the store, and check them against the edited sites.

    Raises InputError if they are missing, damaged, of another model, or lack a layer that the method edits.
    """
    found = read_identified_moments(MomentsStore(store_folder(None)).locate(str(source)))
    sites = model.editable.open_sites(method.hyperparameters.places)
    gradients = method.method.needs_gradients(method.hyperparameters)
    where = str(source)
    check_moments(found, sites, where=where, model_digest=model.editable.base_digest, gradients=gradients)
    return found


def build_moments(
    *,
    model: LoadedModel,
    method: ChosenMethod,
    corpus: str | Sequence[str],
    sentences: int | None = None,
    tokens: int | None = None,
    store: str | None = None,
    console: Console | None = None,
    **fields: object,
) -> SecondMoments:
    """Return second moments of the sites that a method edits, from the store, or built and stored there.

    `corpus` is `factworld`, text files or a hub id, of which `sentences` or `tokens` are taken; `fields` are the other
    keys of a sweep's `moments`. The model is restored to its unedited weights. Writes to `store` (default: the user's
    store of second moments); what is there already is not built again. Raises InputError before anything is built.
    """
    given = (corpus,) if isinstance(corpus, str) else tuple(corpus)
    values = {"corpus": given, "sentences": sentences, "tokens": tokens, **fields}
    entry = validated(MomentsEntry, values, where="build_moments")
    layers = method.hyperparameters.layers
    options = BuildOptions(
        model=model.source,
        corpus=given,
        layers=",".join(map(str, layers)),
        preset=None,
        tokens=entry.tokens,
        sentences=entry.sentences,
        max_tokens=None if "max_tokens_per_text" not in fields else entry.max_tokens_per_text,
        dtype=model.dtype,
        revision=model.revision,
        remote_code=model.remote_code,
        corpus_config=entry.config,
        corpus_revision=entry.revision,
        field=entry.field,
        seed=entry.seed,
        store=store,
        out=None,
        shards=1,
        address=None,
        forward_tokens=None,
        save_every=60.0,
        threads=1,
        device="auto",
        gradients=method.method.needs_gradients(method.hyperparameters),
    )
    key = run_build(options, console or Console(quiet=True), loaded=model.editable)
    sets = MomentsStore(store_folder(store))
    built = joined([sets.read_layer(key, layer) for layer in layers], where=sets.storage.uri)
    return replace(built, files=sets.digests(key, layers))


def read_identified_moments(path: Path) -> SecondMoments:
    """Read second moments from a file or a folder, with the digests by which a trajectory is named."""
    found = read_moments(path)
    return replace(found, files=FileDigests.of(path, found.layers))
