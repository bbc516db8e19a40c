"""The cost of a sweep, from its file and the shapes of its models: accelerator hours, memory, disk.

Requires neither weights nor data nor an accelerator. Hours follow from counted floating-point operations at the rates
of an accelerator (`sphere_core.costs.accelerators`), assumed or measured: an estimate, not a measurement of the sweep.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoConfig

from sphere_core.costs import (
    Accelerator,
    ModelShape,
    TextLengths,
    Work,
    Workload,
    ahead_work,
    checkpoint_bytes,
    edit_work,
    geometry_work,
    hours,
    lengths_of,
    moments_bytes,
    moments_work,
    on_accelerator,
    probe_work,
    published_config,
    shape_of_config,
    stages,
    tuning_checkpoint_bytes,
    tuning_peak,
    tuning_work,
    workload_of,
)
from sphere_core.datasets.factworld.shipped import shipped_model_dir
from sphere_core.foundation.errors import InputError
from sphere_core.hyperparameters import Hyperparameters
from sphere_core.models.loading import DTYPES
from sphere_core.models.source import EMBEDDED_MODEL
from sphere_core.plugins.found import Plugins
from sphere_core.streams.stream import StreamSpec
from workflows.preflight.task_sizes import task_sizes
from workflows.sweeps.inputs import method_of
from workflows.sweeps.paths import resolve_path
from workflows.sweeps.spec import ModelEntry, MomentsEntry, SweepSpec
from workflows.sweeps.tuning_entry import AfterwardsEntry

__all__ = ["SAMPLE_WIDTH", "Cell", "Price", "Sample", "price_sweep"]

# Tokens of a text of a corpus whose amount is given in texts.
_TEXT_TOKENS = 300


# A sample of earlier edits is proposed whose 95 % interval of a share, at most 1.96 sqrt(1 / 4 n), stays within this.
SAMPLE_WIDTH = 0.03
_SAMPLE = math.ceil((1.96 / (2 * SAMPLE_WIDTH)) ** 2)


@dataclass(frozen=True)
class Sample:
    """What edit quality costs a cell, in hours over its trajectories: of all earlier edits, and of `size` of them."""

    size: int
    hours_of_all: float
    hours: float


@dataclass(frozen=True)
class Cell:
    """One method on one model and stream, over all seeds: hours of all its trajectories, peaks and disk of one.

    `sample` is proposed where edit quality of all earlier edits takes longer than editing. `edit_seconds_each` are the
    seconds of one edit; None for a fine-tuning. `ahead_hours` are those of `edit_hours` that decompositions take which
    run beside the search for targets.
    """

    model: str
    stream: str
    method: str
    trajectories: int
    edit_hours: float
    score_hours: float
    accelerator_bytes: float
    host_bytes: float
    disk_bytes: float
    sample: Sample | None = None
    edit_seconds_each: float | None = None
    ahead_hours: float = 0.0


@dataclass(frozen=True)
class Price:
    """A sweep's cells, what is shared between them, and what could not be priced."""

    accelerator: Accelerator
    cells: tuple[Cell, ...]
    shared_hours: float
    shared_disk: float
    unpriced: tuple[str, ...]

    @property
    def hours(self) -> float:
        """Accelerator hours of everything."""
        return self.shared_hours + sum(cell.edit_hours + cell.score_hours for cell in self.cells)

    @property
    def disk(self) -> float:
        """Bytes of all checkpoints and second moments."""
        return self.shared_disk + sum(cell.trajectories * cell.disk_bytes for cell in self.cells)


def price_sweep(spec: SweepSpec, folder: Path, accelerator: Accelerator) -> Price:
    """Price every cell of a sweep; `folder` is the folder of its file.

    Raises InputError for a model that is neither on this machine nor among the published shapes, and for an invalid
    method.
    """
    cells: list[Cell] = []
    moments: dict[tuple[str, tuple[int, ...], bool], tuple[float, float]] = {}
    general, unpriced = task_sizes(spec)
    plugins = Plugins.of_files(resolve_path(file, folder) for file in spec.plugins)
    for model in spec.models:
        shape = _shape(model, folder, plugins)
        for entry in spec.methods:
            method, values, _ = method_of(entry, model.preset, folder, where=f"method '{entry.title}'", plugins=plugins)
            if method.needs_moments(values):
                sites, tokens = len(values.layers), _corpus_tokens(spec.moments)
                slopes = method.needs_gradients(values)
                first, last = values.layers[0], values.layers[-1]
                pass_work = moments_work(shape, sites, last, tokens, first_layer=first, gradients=slopes)
                size = moments_bytes(shape, sites, gradients=slopes)
                moments[model.label, values.layers, slopes] = (hours(pass_work, accelerator), size)
            for stream in spec.streams:
                lengths = lengths_of(stream.dataset)
                work = workload_of(
                    method,
                    values,
                    dtype_bytes=DTYPES[model.dtype].itemsize,
                    batch=spec.batch_size,
                    edits=stream.edits,
                    contexts=1 + len(spec.contexts.seeds),
                    lengths=lengths,
                    on_accelerator=True,
                )
                work = on_accelerator(shape, work, values.layers, accelerator.memory)
                cells.append(
                    _cell(spec, model.label, stream, entry.title, shape, work, values, lengths, general, accelerator)
                )
                cells += [
                    _tuning_cell(
                        spec, cells[-1], tuning, stream, shape, work, len(values.layers), lengths, general, accelerator
                    )
                    for tuning in spec.afterwards
                ]
    shared_hours, shared_disk = (sum(part) for part in zip(*moments.values(), strict=True)) if moments else (0.0, 0.0)
    return Price(accelerator, tuple(cells), shared_hours, shared_disk, tuple(unpriced))


def _cell(
    spec: SweepSpec,
    model: str,
    stream: StreamSpec,
    method: str,
    shape: ModelShape,
    work: Workload,
    values: Hyperparameters,
    lengths: TextLengths,
    general: Sequence[Mapping[str, float]],
    accelerator: Accelerator,
) -> Cell:
    wanted, seeds = spec.wanted_checkpoints(stream.edits), len(spec.seeds)
    edit_hours = seeds * hours(edit_work(shape, work, values, stream.edits), accelerator)
    chosen = (spec.evaluators.edit_quality or {}).get("sample")
    scoring = _scoring(spec, shape, work, lengths, general, wanted)
    peaks = stages(shape, work)
    sample = None
    if spec.evaluators.edit_quality is not None and chosen is None:
        whole, part = (
            seeds * hours(_quality(shape, work, lengths, [min(edits, most) for edits in wanted]), accelerator)
            for most in (stream.edits, _SAMPLE)
        )
        sample = Sample(_SAMPLE, whole, part) if whole > edit_hours and part < whole else None
    return Cell(
        model=model,
        stream=f"{stream.name}, {stream.order_name}, {stream.edits} edits",
        method=method,
        trajectories=seeds,
        edit_hours=edit_hours,
        edit_seconds_each=3600 * edit_hours / (seeds * stream.edits),
        ahead_hours=seeds * hours(ahead_work(shape, work, stream.edits), accelerator),
        score_hours=seeds * hours(scoring, accelerator),
        accelerator_bytes=max(peak.accelerator for peak in peaks),
        host_bytes=max(peak.host for peak in peaks),
        disk_bytes=sum(checkpoint_bytes(shape, work, edits) for edits in wanted if spec.keep.keeps(edits, wanted)),
        sample=sample,
    )


def _scoring(
    spec: SweepSpec,
    shape: ModelShape,
    work: Workload,
    lengths: TextLengths,
    general: Sequence[Mapping[str, float]],
    checkpoints: Sequence[int],
) -> Work:
    """Return the work of every evaluator at checkpoints after these numbers of edits."""
    scoring = Work()
    chosen = (spec.evaluators.edit_quality or {}).get("sample")
    for edits in checkpoints:
        if spec.evaluators.edit_quality is not None:
            scoring += _quality(shape, work, lengths, [min(edits, chosen or edits)])
        if spec.evaluators.geometry is not None:
            scoring += geometry_work(shape, work.sites)
        for task in general:
            tokens = int(task["tokens"] + task["generated"])
            scoring += probe_work(shape, int(task["documents"] * task["rows"]), tokens)
    return scoring


def _tuning_cell(
    spec: SweepSpec,
    parent: Cell,
    entry: AfterwardsEntry,
    stream: StreamSpec,
    shape: ModelShape,
    work: Workload,
    edited: int,
    lengths: TextLengths,
    general: Sequence[Mapping[str, float]],
    accelerator: Accelerator,
) -> Cell:
    """Return the cell of a fine-tuning after a method: what is tuned, scored and kept of every parent checkpoint."""
    settings, starts = entry.finetune, entry.checkpoints or (stream.edits,)
    scoring = _scoring(spec, shape, work, lengths, general, [edits for edits in starts for _ in entry.wanted])
    count = parent.trajectories * len(starts)
    each = tuning_checkpoint_bytes(shape, settings, edited, work)
    return Cell(
        model=parent.model,
        stream=parent.stream,
        method=f"{parent.method}, then {entry.title}",
        trajectories=count,
        edit_hours=count * hours(tuning_work(shape, settings, edited), accelerator),
        score_hours=parent.trajectories * hours(scoring, accelerator),
        accelerator_bytes=tuning_peak(shape, settings, edited, work.dtype_bytes),
        host_bytes=each,
        disk_bytes=each * sum(spec.keep.keeps(step, entry.wanted) for step in entry.wanted),
    )


def _quality(shape: ModelShape, work: Workload, lengths: TextLengths, asked: Sequence[int]) -> Work:
    """Return the work of edit quality; `asked` edits at each checkpoint.

    Padded rows are counted for layers with a state, which read no trees, and for methods that store something, since
    they may route by the prompt.
    """
    padded = shape.whole_rows or work.stored is not None
    tokens = lengths.probe_padded if padded else lengths.probe_tree
    return probe_work(shape, sum(asked) * lengths.probe_rows, tokens)


def _corpus_tokens(entry: MomentsEntry | None) -> int:
    if entry is None or entry.corpus is None:
        return 0
    return entry.tokens or _TEXT_TOKENS * (entry.sentences or 0)


def _shape(model: ModelEntry, folder: Path, plugins: Plugins) -> ModelShape:
    """Return a model's shape: from its own config if it is here or can be fetched, else as published."""
    local = resolve_path(model.source, folder)
    if model.source == EMBEDDED_MODEL:
        return shape_of_config(AutoConfig.from_pretrained(shipped_model_dir()), where=model.source)
    if local.is_dir():
        return shape_of_config(
            AutoConfig.from_pretrained(local, trust_remote_code=False), where=str(local), plugins=plugins
        )
    published = published_config(model.source)
    if published is not None:
        return shape_of_config(published, where=model.source)
    try:
        config = AutoConfig.from_pretrained(model.source, revision=model.revision, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"the config of '{model.source}' cannot be had ({type(error).__name__})",
            where=model.source,
            remedy="give a folder with config.json, or fetch the model once while online",
        ) from error
    return shape_of_config(config, where=model.source)
