"""One `sphere moments build`: check everything, find out what is missing, build it, keep it."""

from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from sphere_core.hyperparameters import preset
from sphere_core.models import EditableModel, load_model
from sphere_core.models.devices import pick_device
from sphere_core.models.loading import DTYPES
from sphere_core.moments.build import tokenizer_digest
from sphere_core.moments.files import joined, write_moments
from sphere_core.moments.memory import forward_tokens
from sphere_core.moments.packing import Amount, Packing, Pass
from sphere_core.numerics.placement import device_name
from sphere_core.plugins.found import Plugins
from workflows.cluster.ray_executor import RayExecutor
from workflows.moments.build import build_alone, merge_shards, name_model, remove_groups
from workflows.moments.corpus_texts import find_corpus, require_texts
from workflows.moments.layer_list import parse_layers
from workflows.moments.store import MomentsStore, store_folder
from workflows.moments.work import BACKWARD_SHARE, ModelName, MomentsWork
from workflows.runs.moments_shards import run_shards
from workflows.runs.pass_bar import PassBar, print_whole
from workflows.store.build_lock import building
from workflows.store.corpus import Corpus
from workflows.store.layout import moments_lock
from workflows.store.records import PassSize
from workflows.sweeps.resources import EvaluatorResources, Resources, WorkerResources

__all__ = ["BuildOptions", "run_build"]

# MEMIT's released statistics cut texts at the positions of GPT-2 XL; the default for every model here.
MAX_TOKENS = 1024


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """What `sphere moments build` takes."""

    model: str
    corpus: tuple[str, ...]
    layers: str | None
    preset: str | None
    tokens: int | None
    sentences: int | None
    max_tokens: int | None
    dtype: str
    revision: str | None
    remote_code: bool
    corpus_config: str | None
    corpus_revision: str | None
    field: str
    seed: int
    store: str | None
    out: Path | None
    shards: int
    address: str | None
    forward_tokens: int | None
    save_every: float
    threads: int
    device: str
    gradients: bool = False
    plugins: tuple[Path, ...] = ()


@dataclass(frozen=True)
class _Asked:
    """A set that is to be in the store, checked: its key, what it is of, and the length at which texts are cut."""

    key: str
    model: ModelName
    skeleton: EditableModel
    corpus: Corpus
    layers: tuple[int, ...]
    amount: Amount
    longest: int


def run_build(options: BuildOptions, console: Console, *, loaded: EditableModel | None = None) -> str:
    """Build what the store lacks of a set, print how to use it, and return its key in the store.

    `loaded` is the model where it is in memory already; it is restored to its unedited weights. Raises InputError
    before anything is written.
    """
    store = MomentsStore(store_folder(options.store))
    asked = _asked(options, store)
    key, layers = asked.key, asked.layers
    print_whole(
        console, f"{key}: {options.model}, layers {_spelled(layers)}, {asked.amount.wish} of {asked.corpus.label}"
    )
    wait = moments_lock(key), lambda: not store.missing(key, layers)
    with building(store.storage, *wait, on_wait=lambda who: print_whole(console, f"{who} builds it; waiting")) as mine:
        if mine:
            task = _work(options, asked, store)
            if options.shards > 1:
                _build_sharded(task, asked.skeleton, store, options, console)
            else:
                _build_here(task, store, options, console, loaded)
            store.storage.delete(_pass_path(key))
        else:
            print_whole(console, "it is there already")
    if options.out is not None:
        whole = joined([store.read_layer(key, layer) for layer in layers], where=store.storage.uri)
        Storage(options.out.resolve().parent).write_file(options.out.name, lambda path: write_moments(whole, path))
        print_whole(console, f"all layers as one file: {options.out}")
    print_whole(console, f"files: {store.storage.uri}/{key}")
    print_whole(console, f"in a sweep: moments: {{stored: {key}}}")
    return key


def _asked(options: BuildOptions, store: MomentsStore) -> _Asked:
    """Check the options and find the model and its texts; writes nothing."""
    amount = Amount(tokens=options.tokens, texts=options.sentences)
    layers = _layers(options)
    corpus = find_corpus(
        options.corpus,
        folder=Path.cwd(),
        config=options.corpus_config,
        revision=options.corpus_revision,
        field=options.field,
        seed=options.seed,
    )
    require_texts(corpus, options.sentences or 1)
    model, skeleton = name_model(
        options.model,
        dtype=options.dtype,
        revision=options.revision,
        remote_code=options.remote_code,
        plugins=Plugins.of_files(options.plugins, where="--plugin"),
    )
    skeleton.open_sites(layers)
    longest = _longest(options, skeleton)
    key = store.key_of(
        {
            "model_digest": model.model_digest,
            "tokenizer_digest": tokenizer_digest(skeleton.tokenizer),
            "corpus": corpus.identity(),
            "amount": amount.identity(),
            "max_tokens_per_text": longest,
            "dtype": options.dtype,
            **({"gradients": True} if options.gradients else {}),
        }
    )
    return _Asked(key, model, skeleton, corpus, layers, amount, longest)


def _work(options: BuildOptions, asked: _Asked, store: MomentsStore) -> MomentsWork:
    """Return the pass over the layers that the store lacks; writes the size of its forwards."""
    left = store.missing(asked.key, asked.layers)
    size = _forward_tokens(options, asked.skeleton, left, store.storage, asked.key)
    packing = Packing(asked.longest, forward_tokens=size)
    work = Pass(tuple(left), packing, asked.amount, options.gradients)
    return MomentsWork(asked.key, asked.model, asked.corpus, work, options.save_every, _processor(options))


def _processor(options: BuildOptions) -> str:
    """Return what the sums depend on beside the pass; shards choose their devices where they run."""
    device = options.device if options.shards > 1 else device_name(torch.device(pick_device(options.device)))
    return MomentsWork.named_processor(device, options.threads)


def _build_here(
    task: MomentsWork, store: MomentsStore, options: BuildOptions, console: Console, loaded: EditableModel | None
) -> None:
    named = task.model
    if loaded is not None:
        loaded.restore_base()
    else:
        with console.status("loading the model"):
            loaded = load_model(
                named.model,
                dtype=named.dtype,
                device=pick_device(options.device),
                revision=named.revision,
                digest=named.model_digest,
                remote_code=named.remote_code,
                family=named.family,
            )
    with PassBar(console, task.work.amount) as bar:
        build_alone(
            task,
            loaded,
            store.storage,
            publish=lambda moments: store.write(task.key, moments),
            on_progress=lambda done: bar.show(done.texts if task.work.amount.tokens is None else done.tokens),
        )


def _build_sharded(
    task: MomentsWork, skeleton: EditableModel, store: MomentsStore, options: BuildOptions, console: Console
) -> None:
    resources = Resources(
        threads=options.threads,
        replica=WorkerResources(
            num_cpus=options.threads, num_gpus=0 if options.device == "cpu" else "auto", device=options.device
        ),
        evaluator=EvaluatorResources(replicas=0),
        max_replicas=options.shards,
    )
    print_whole(console, "starting Ray" if options.address is None else f"attaching to Ray at {options.address}")
    ray = RayExecutor(store.storage.uri, resources, address=options.address)
    with ray as executor, PassBar(console, task.work.amount) as bar:
        run_shards(executor, task, options.shards, on_progress=bar.show)
    store.write(task.key, merge_shards(task, skeleton, store.storage))
    remove_groups(task, store.storage)


def _layers(options: BuildOptions) -> tuple[int, ...]:
    if (options.layers is None) == (options.preset is None):
        raise InputError("give either --layers or --preset", where="sphere moments build", remedy="--layers 4,5,6")
    return preset(options.preset, "memit", ()).layers if options.preset else parse_layers(str(options.layers))


def _longest(options: BuildOptions, skeleton: EditableModel) -> int:
    """Return the length at which texts are cut: as given, or 1024, within the model's positions."""
    positions = getattr(skeleton.network.config.get_text_config(), "max_position_embeddings", None)
    if options.max_tokens is None:
        return min(MAX_TOKENS, positions or MAX_TOKENS)
    if positions is not None and options.max_tokens > positions:
        raise InputError(
            f"texts of {options.max_tokens} tokens do not fit the model's {positions} positions",
            where="--max-tokens",
            remedy=f"at most {positions}",
        )
    return options.max_tokens


def _forward_tokens(
    options: BuildOptions, skeleton: EditableModel, layers: list[int], storage: Storage, key: str
) -> int:
    """Return the size of a forward, which an attempt that was killed has fixed for those after it."""
    path = _pass_path(key)
    chosen = options.forward_tokens
    fixed = PassSize.read(storage, path) if chosen is None else None
    if fixed is not None:
        chosen = fixed.forward_tokens
    if chosen is None:
        chosen = forward_tokens(skeleton, layers, DTYPES[options.dtype], pick_device(options.device))
        chosen = max(1, chosen // BACKWARD_SHARE) if options.gradients else chosen
    PassSize(forward_tokens=chosen).write(storage, path)
    return chosen


def _pass_path(key: str) -> str:
    return f".{key}-pass.json"


def _spelled(layers: tuple[int, ...]) -> str:
    return ",".join(map(str, layers))
