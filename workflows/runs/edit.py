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
from sphere_core.datasets.records import Record
from sphere_core.datasets.sources import DatasetSpec, read_dataset
from sphere_core.editors.memory.companion_folders import with_companions
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from sphere_core.hyperparameters import Hyperparameters
from sphere_core.locate.templates import Contexts, read_contexts
from sphere_core.methods import Method, resolve_method
from sphere_core.models import EditableModel, commit_of, load_model, resolve_model
from sphere_core.models.devices import pick_device
from sphere_core.models.loading import family_of
from sphere_core.moments.record import SecondMoments
from sphere_core.plugins.found import Plugins
from sphere_core.streams.lengths import long_records
from sphere_core.streams.stream import StreamSpec
from sphere_core.trajectory import check_against_model
from sphere_core.trajectory_spec import TrajectorySpec
from workflows.runs.loading import ChosenMethod, LoadedModel, LoadedStream, read_identified_moments
from workflows.runs.prepared_edit import prepare_edit, room_of_edit
from workflows.store.layout import SPEC_FILE
from workflows.sweeps.inputs import of_published_file
from workflows.sweeps.overrides import set_hyperparameters
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
    model = _model(options, plugins, device)
    check_against_model(hyperparameters, model.editable, where=str(options.hparams or f"preset '{options.preset}'"))
    stream, left_out = _stream(options, method, records, model.editable, groups)
    for line in left_out:
        console.print(f"left out: {line}", highlight=False, markup=False, soft_wrap=True)
    storage = Storage(options.out)
    prepared = prepare_edit(
        model=model,
        stream=stream,
        method=ChosenMethod(method, hyperparameters),
        batch_size=options.batch_size,
        moments=moments,
        contexts=groups,
        threads=options.threads,
        where=str(options.moments),
        plugins=plugins,
        resume=lambda spec: _resume_point(storage, spec, options.out),
    )
    spec = prepared.spec
    storage.write_bytes(SPEC_FILE, spec.model_dump_json(indent=1).encode())
    first = prepared.resume.edits if prepared.resume is not None else 0
    if first:
        console.print(f"resuming from the checkpoint after {first} edits")
    _write_checkpoints(prepared.run(spec.id), model.editable, storage, console, first=first, of=len(stream.requests))
    count = len(checkpoints_in(storage))
    console.print(f"{count} checkpoints in {options.out}", highlight=False, soft_wrap=True)


def _model(options: EditOptions, plugins: Plugins, device: torch.device | str) -> LoadedModel:
    source, remote_code = options.model, options.remote_code
    folder = resolve_model(source, revision=options.revision, remote_code=remote_code)
    family = family_of(folder, remote_code=remote_code, plugins=plugins)
    editable = load_model(str(folder), dtype=options.dtype, device=device, remote_code=remote_code, family=family)
    known = commit_of(folder) or options.revision
    return LoadedModel(editable, source, options.dtype, options.preset, known, remote_code)


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


def _stream(
    options: EditOptions, method: Method, records: Sequence[Record], model: EditableModel, groups: Contexts | None
) -> tuple[LoadedStream, list[str]]:
    """Return the requests in the order of their file, and a line for each record that is left out, if such records are
    skipped: the model has too few positions for it. Raises InputError if that is every record."""
    room = room_of_edit(model, method, groups) if options.too_long == "skip" else None
    long = {} if room is None else long_records(records, room)
    requests = [request for place, record in enumerate(records) if place not in long for request in record.requests]
    if room is not None and not requests:
        raise InputError(
            f"every record is longer than the model's {room.positions} positions",
            where=options.requests.source,
            remedy="take a model with more positions",
        )
    spec = StreamSpec(**options.requests.model_dump(), edits=len(requests), left_out=tuple(long))
    lines = [f"case {text.case_id}, {text.field} has {text.tokens} tokens" for text in long.values()]
    return LoadedStream(spec, options.seed, tuple(requests)), lines


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
        return read_identified_moments(options.moments)
    if method.needs_moments(hyperparameters):
        raise InputError(
            f"method '{method.name}' needs second moments",
            where="--moments",
            remedy="give an npz with layer{l} arrays, or build them with 'sphere moments build'",
        )
    return None
