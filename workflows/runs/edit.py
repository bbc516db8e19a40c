"""One trajectory from the command line, in this process, with every batch kept."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from transformers.utils import logging as transformers_logging

from sphere_core.checkpoint_files import checkpoints_in
from sphere_core.checkpoints import Checkpoint, latest_checkpoint, write_checkpoint
from sphere_core.costs import place
from sphere_core.datasets.records import Record
from sphere_core.datasets.sources import DatasetSpec, read_dataset
from sphere_core.editors.memory.companion_folders import with_companions
from sphere_core.editors.memory.neuron_file import require_cases, require_place
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.fingerprint import file_digest
from sphere_core.foundation.storage import Storage
from sphere_core.hyperparameters import Hyperparameters
from sphere_core.locate.contexts import sample_contexts
from sphere_core.locate.templates import Contexts, ContextSettings, read_contexts
from sphere_core.methods import Method, resolve_method
from sphere_core.models import EditableModel, commit_of, load_model, resolve_model
from sphere_core.models.devices import pick_device
from sphere_core.models.loading import family_of
from sphere_core.moments.files import read_moments
from sphere_core.moments.record import SecondMoments, check_moments
from sphere_core.plugins.found import Plugins
from sphere_core.requests import EditRequest, requests_digest
from sphere_core.streams.lengths import long_records, refuse_long
from sphere_core.streams.model_room import room_of_model
from sphere_core.streams.stream import StreamSpec
from sphere_core.trajectory import check_against_model, run_trajectory
from sphere_core.trajectory_spec import TrajectorySpec
from workflows.store.layout import SPEC_FILE
from workflows.sweeps.inputs import of_published_file
from workflows.sweeps.overrides import set_hyperparameters
from workflows.sweeps.plugin_inputs import outside_inputs, reader_code
from workflows.terminal.step_line import StepLine

__all__ = ["EditOptions", "run_edit"]


@dataclass(frozen=True, kw_only=True)
class EditOptions:
    """What `sphere edit` takes."""

    model: str
    requests: DatasetSpec
    method: str
    moments: Path | None
    batch_size: int
    out: Path
    hparams: Path | None
    preset: str | None
    contexts: Path | None
    dtype: str
    seed: int
    threads: int
    device: str
    revision: str | None
    remote_code: bool
    too_long: str = "refuse"
    plugins: tuple[Path, ...] = ()
    overrides: tuple[str, ...] = ()


def run_edit(options: EditOptions, console: Console) -> None:
    """Check every input, then edit and write one checkpoint a batch; raises InputError before anything is written."""
    torch.set_num_threads(options.threads)
    device = pick_device(options.device)
    transformers_logging.disable_progress_bar()
    plugins = Plugins.of_files(options.plugins, where="--plugin")
    method = resolve_method(options.method, where="--method", plugins=plugins)
    hyperparameters, notes = _hyperparameters(options, method)
    for note in notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    records = read_dataset(options.requests, plugins).records
    groups = read_contexts(options.contexts) if options.contexts is not None else None
    moments = _moments(options, method, hyperparameters)
    folder = resolve_model(options.model, revision=options.revision, remote_code=options.remote_code)
    family = family_of(folder, remote_code=options.remote_code, plugins=plugins)
    model = load_model(str(folder), dtype=options.dtype, device=device, remote_code=options.remote_code, family=family)
    check_against_model(hyperparameters, model, where=str(options.hparams or f"preset '{options.preset}'"))
    if moments is not None:
        sites = model.open_sites(hyperparameters.places)
        check_moments(
            moments,
            sites,
            where=str(options.moments),
            model_digest=model.base_digest,
            gradients=method.needs_gradients(hyperparameters),
        )
    requests, left_out = _fitting(options, method, records, model, groups)
    _check_neurons(hyperparameters, model, requests)
    for line in left_out.values():
        console.print(f"left out: {line}", highlight=False, markup=False, soft_wrap=True)
    revision = commit_of(folder) or options.revision
    spec = _spec(options, method, hyperparameters, requests, groups, model, revision, tuple(left_out), plugins)
    storage = Storage(options.out)
    resume = _resume_point(storage, spec, options.out)
    contexts = groups or sample_contexts(model, ContextSettings(), options.seed)
    placement = place(
        model,
        method,
        hyperparameters,
        requests,
        batch_size=options.batch_size,
        contexts=contexts,
        moments=moments,
    )
    editor = method.build(hyperparameters, moments, placement)
    storage.write_bytes(SPEC_FILE, spec.model_dump_json(indent=1).encode())
    first = resume.edits if resume is not None else 0
    if first:
        console.print(f"resuming from the checkpoint after {first} edits")
    chain = run_trajectory(
        spec.id,
        editor,
        model,
        requests,
        batch_size=options.batch_size,
        contexts=contexts,
        resume=resume,
    )
    _write_checkpoints(chain, model, storage, console, first=first, of=len(requests))
    count = len(checkpoints_in(storage))
    console.print(f"{count} checkpoints in {options.out}", highlight=False, soft_wrap=True)


def _check_neurons(hyperparameters: Hyperparameters, model: EditableModel, requests: Sequence[EditRequest]) -> None:
    """Raise InputError if a file of neurons is not for this model, or lacks a unit for some request."""
    if hyperparameters.neurons_file is not None:
        path, config = Path(hyperparameters.neurons_file), model.network.config.get_text_config()
        require_place(path, layers=config.num_hidden_layers, width=config.hidden_size)
        require_cases(path, [request.case_id for request in requests])


def _resume_point(storage: Storage, spec: TrajectorySpec, out: Path) -> Checkpoint | None:
    """Return the newest checkpoint of a folder, if any; raises InputError if it is of another trajectory."""
    found = latest_checkpoint(storage)
    if found is not None and found.trajectory_id != spec.id:
        raise InputError(
            f"the folder holds checkpoints of another trajectory ({found.trajectory_id}, not {spec.id})",
            where=str(out),
            remedy="give another --out, or the inputs of that trajectory",
        )
    return found


def _write_checkpoints(
    chain: Iterable[Checkpoint], model: EditableModel, storage: Storage, console: Console, *, first: int, of: int
) -> None:
    """Publish each checkpoint as it comes, and show edits, rate and the step under way; `first` edits were there."""
    started = time.monotonic()
    with StepLine(console) as shown:
        model.progress.listen(lambda: shown.show(model.progress.position) if model.progress.position else None)
        for checkpoint in chain:
            write_checkpoint(checkpoint, storage)
            rate = (checkpoint.edits - first) / (time.monotonic() - started)
            console.print(f"{checkpoint.edits}/{of} edits, {rate:.1f}/s", highlight=False)
            if checkpoint.collapsed:
                console.print("the model has collapsed: an edited weight is no longer finite")


def _fitting(
    options: EditOptions, method: Method, records: Sequence[Record], model: EditableModel, groups: Contexts | None
) -> tuple[list[EditRequest], dict[int, str]]:
    """Return the requests, and the records that are left out because the model has too few positions for them.

    Raises InputError for a text that is too long, unless such records are skipped.
    """
    in_contexts = method.edits_in_contexts
    sampled = ContextSettings().model_dump(mode="json") if in_contexts and groups is None else None
    room = room_of_model(model, groups=groups if in_contexts else None, sampled=sampled)
    requests = [request for record in records for request in record.requests]
    if room is None:
        return requests, {}
    if options.too_long == "refuse":
        refuse_long(requests, room, source=options.requests.source)
        return requests, {}
    long = long_records(records, room)
    kept = [request for place, record in enumerate(records) if place not in long for request in record.requests]
    if not kept:
        raise InputError(
            f"every record is longer than the model's {room.positions} positions",
            where=options.requests.source,
            remedy="take a model with more positions",
        )
    lines = {place: f"case {text.case_id}, {text.field} has {text.tokens} tokens" for place, text in long.items()}
    return kept, lines


def _hyperparameters(options: EditOptions, method: Method) -> tuple[Hyperparameters, tuple[str, ...]]:
    if (options.hparams is None) == (options.preset is None):
        raise InputError("give either --hparams FILE or --preset NAME", where="sphere edit")
    notes: tuple[str, ...] = ()
    changed = set_hyperparameters(options.overrides)
    if options.hparams is not None:
        where = str(options.hparams)
        values, notes = of_published_file(method, options.hparams, changed, where="--set" if changed else where)
    else:
        where = f"preset '{options.preset}'"
        values = method.from_preset(str(options.preset), changed)
    method.check(values, where=where)
    return with_companions(values, Path.cwd()), notes


def _moments(options: EditOptions, method: Method, hyperparameters: Hyperparameters) -> SecondMoments | None:
    if options.moments is not None:
        return read_moments(options.moments)
    if method.needs_moments(hyperparameters):
        raise InputError(
            f"method '{method.name}' needs second moments",
            where="--moments",
            remedy="give an npz with layer{l} arrays, or build them with 'sphere moments build'",
        )
    return None


def _spec(
    options: EditOptions,
    method: Method,
    hyperparameters: Hyperparameters,
    requests: list[EditRequest],
    groups: Contexts | None,
    model: EditableModel,
    revision: str | None,
    left_out: tuple[int, ...],
    plugins: Plugins,
) -> TrajectorySpec:
    sampled = {"sampled": ContextSettings().model_dump(mode="json")}
    return TrajectorySpec(
        model=options.model,
        model_digest=model.base_digest,
        revision=revision,
        remote_code=options.remote_code,
        family=model.family.carried,
        dtype=options.dtype,
        method=method.name,
        revisions=method.revisions(hyperparameters),
        plugins={**method.code, **reader_code(outside_inputs(options.requests.dataset, model.family, plugins))},
        hyperparameters=hyperparameters,
        stream=StreamSpec(**options.requests.model_dump(), edits=len(requests), left_out=left_out),
        stream_digest=requests_digest(requests),
        batch_size=options.batch_size,
        seed=options.seed,
        contexts={"groups": [list(group) for group in groups]} if groups is not None else sampled,
        moments={} if options.moments is None else {"file_digest": file_digest(options.moments)},
        threads=options.threads,
    )
