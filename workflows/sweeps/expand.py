"""From a sweep file to a plan: every input is found and checked here, before anything is written."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from evaluators.plugins.rows import OutsideSettings
from evaluators.registry import Description, describe_evaluator, read_evaluator_settings
from sphere_core.editors.memory.neuron_file import require_cases
from sphere_core.foundation.errors import InputError, inside
from sphere_core.foundation.fingerprint import fingerprint
from sphere_core.foundation.processor import has_gpu_driver, processor_flags
from sphere_core.hyperparameters import Hyperparameters
from sphere_core.methods import Method
from sphere_core.moments.spec import MomentsSpec
from sphere_core.trajectory_spec import TrajectorySpec
from workflows.store.plan import BasePlan, MomentsRecipe, SweepPlan, TrajectoryPlan
from workflows.sweeps.cells import Cell
from workflows.sweeps.evaluations import EvaluationIds, evaluator_settings
from workflows.sweeps.grids import SweepText, axis_names
from workflows.sweeps.half_precision import slow_formats
from workflows.sweeps.inputs import Inputs
from workflows.sweeps.model_inputs import ResolvedModel, reading_room
from workflows.sweeps.moment_inputs import ResolvedMoments
from workflows.sweeps.plugin_inputs import UsedRows, outside_inputs, plugins_of, reader_code
from workflows.sweeps.reading import read_sweep
from workflows.sweeps.spec import MomentsEntry, SweepSpec
from workflows.sweeps.tuning_inputs import TuningInputs, tuned_at
from workflows.sweeps.twins import refuse_twins, twins

__all__ = ["Sweep", "load_sweep"]

_NOTES = 10
_Entry = TypeVar("_Entry")


@dataclass(frozen=True)
class Sweep:
    """A checked sweep file: its plan, what replicas require to carry it out, and notes on its inputs to show."""

    spec: SweepSpec
    text: SweepText
    plan: SweepPlan
    specs: dict[str, TrajectorySpec]
    moments_file: str | None
    evaluators: dict[str, dict[str, Any]]
    notes: tuple[str, ...] = ()
    # The sources of the plugin files in use, by digest.
    sources: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def default_root(self) -> str:
        """The root of the sweep if none is given."""
        return f"runs/{self.spec.name}"

    def note_lines(self) -> list[str]:
        """Return the notes as lines to show, no more than fit beside the rest of a screen."""
        more = [f"and {len(self.notes) - _NOTES} more notes"] if len(self.notes) > _NOTES else []
        return [*(f"note: {note}" for note in self.notes[:_NOTES]), *more]


def load_sweep(
    path: Path, overrides: Sequence[str] = (), *, trust_task_code: bool = False, run_code: bool = False
) -> Sweep:
    """Read and check a sweep file and all it names, and plan it; raises InputError, writes nothing.

    `overrides` are texts `PATH=VALUE` that replace values of the file; the plan records them. `trust_task_code` lets
    task files of a user name Python, which enters the identity of their scores; it is run to check them only with
    `run_code`.
    """
    spec, text = read_sweep(path, overrides)
    folder = path.resolve().parent
    plugins = plugins_of(spec, text, folder)
    inputs = Inputs.of(folder, plugins, spec.models)
    settings = evaluator_settings(spec, text, folder, trust_task_code=trust_task_code)
    chosen = {
        kind: read_evaluator_settings(values, where=text.where(("evaluators", kind)), plugins=plugins)
        for kind, values in settings.items()
    }
    scorers = {kind: describe_evaluator(one, run_code=run_code) for kind, one in chosen.items()}
    ids = EvaluationIds(scorers)
    refuse_twins(spec.methods, text)
    scored_with_moments = any(scorer.reads_moments for scorer in scorers.values())
    cells = list(_cells(spec, text, inputs, scored_with_moments=scored_with_moments))
    recipes, key_of = _recipes(spec, inputs, cells)
    of_kind = {kind: one.found.plugin for kind, one in chosen.items() if isinstance(one, OutsideSettings)}
    used = UsedRows((cell.method for cell in cells), (one for cell in cells for one in cell.outside.items()), of_kind)
    trajectories: list[TrajectoryPlan] = []
    children: list[TrajectoryPlan] = []
    specs: dict[str, TrajectorySpec] = {}
    tunings = TuningInputs(spec, text, folder, plugins)
    seen: dict[str, str] = {}
    for cell in cells:
        if cell.id in seen:
            raise twins(cell.entry, seen[cell.id], text)
        seen[cell.id] = cell.entry.title
        trajectories.append(_trajectory_plan(cell, spec, ids, key_of.get(cell.id)))
        specs[cell.id] = cell.spec
        for child, specs[child.id] in tunings.children(trajectories[-1], cell.spec, cell.moments, ids):
            children.append(child)
    plan = SweepPlan(
        name=spec.name,
        trajectories=(*trajectories, *children),
        bases=tuple(_bases(cells, scorers, ids)),
        recipes=tuple(recipes),
        published=spec.published,
        keep=spec.keep,
        watchdog=spec.watchdog,
        plugins=used.records(),
        overrides=tuple(overrides),
    )
    given = None if spec.moments is None or spec.moments.corpus is not None else spec.moments
    moments_file = None if given is None else str(inputs.moments.path(given))
    slow = slow_formats(spec, processor_flags(), gpu_here=has_gpu_driver())
    notes = (*used.notes(), *slow, *inputs.notes, *inputs.streams.notes)
    return Sweep(spec, text, plan, specs, moments_file, settings, notes, used.sources())


def _cells(spec: SweepSpec, text: SweepText, inputs: Inputs, *, scored_with_moments: bool) -> Iterator[Cell]:
    contexts = inputs.contexts(spec.contexts)
    for model_place, model_entry in _placed("models", spec.models):
        model = inputs.models.find(model_entry, where=text.where(model_place))
        methods = [
            (place, entry, *inputs.method(entry, model, where=text.where(place)))
            for place, entry in _placed("methods", spec.methods)
        ]
        in_contexts = any(method.edits_in_contexts for _, _, method, _ in methods)
        room = reading_room(model, contexts, edits_in_contexts=in_contexts)
        for method_place, entry, method, hyperparameters in methods:
            source = spec.moments_of(entry)
            moments = _moments(source, spec, text, inputs, model, hyperparameters, method)
            # A method that requires no moments is still scored with the sweep's, so that methods can be compared.
            scoring = moments
            if scored_with_moments and source is not None and not moments.spec.is_given:
                scoring = inputs.moments.find(
                    source, model, (), threads=spec.resources.threads, where=text.where(("moments",))
                )
            for stream_place, stream in _placed("streams", spec.streams):
                outside = outside_inputs(stream.dataset, model.outline.family, inputs.plugins)
                axes = axis_names(*(text.axes.get(place, {}) for place in (method_place, stream_place, model_place)))
                for seed in spec.seeds:
                    resolved = inputs.streams.find(stream, seed, where=text.where(stream_place), room=room)
                    if hyperparameters.neurons_file is not None:
                        with inside(text.where(method_place)):
                            require_cases(Path(hyperparameters.neurons_file), resolved.cases)
                    trajectory = TrajectorySpec(
                        model=model.source,
                        model_digest=model.digest,
                        revision=model.revision,
                        remote_code=model_entry.trust_remote_code,
                        family=model.outline.family.carried,
                        dtype=model_entry.dtype,
                        method=method.name,
                        revisions=method.revisions(hyperparameters),
                        plugins={**method.code, **reader_code(outside)},
                        hyperparameters=hyperparameters,
                        stream=resolved.spec,
                        stream_digest=resolved.digest,
                        generation_digest=resolved.generation_digest,
                        batch_size=spec.batch_size_of(entry),
                        seed=seed,
                        contexts=contexts,
                        moments=moments.spec,
                        threads=spec.resources.threads,
                    )
                    yield Cell(model, entry, method, stream, trajectory, trajectory.id, scoring, source, axes, outside)


def _placed(part: str, entries: Sequence[_Entry]) -> Iterator[tuple[tuple[str, int], _Entry]]:
    """Yield the entries of a part of the sweep file, each with its location there."""
    for index, entry in enumerate(entries):
        yield (part, index), entry


def _moments(
    source: MomentsEntry | None,
    spec: SweepSpec,
    text: SweepText,
    inputs: Inputs,
    model: ResolvedModel,
    hyperparameters: Hyperparameters,
    method: Method,
) -> ResolvedMoments:
    if not method.needs_moments(hyperparameters):
        return ResolvedMoments(MomentsSpec(), None)
    if source is None:
        raise InputError(
            f"method '{method.name}' needs second moments",
            where=text.where(()),
            remedy="add 'moments: {corpus: factworld, sentences: 4000}' or 'moments: {file: PATH}'",
        )
    where = text.where(("moments",))
    return inputs.moments.find(
        source,
        model,
        hyperparameters.layers,
        threads=spec.resources.threads,
        where=where,
        gradients=method.needs_gradients(hyperparameters),
    )


def _recipes(spec: SweepSpec, inputs: Inputs, cells: list[Cell]) -> tuple[list[MomentsRecipe], dict[str, str]]:
    """Return the recipes, and the key of each trajectory that waits for one."""
    if spec.moments is None or spec.moments.corpus is None:
        return [], {}
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.moments.spec.is_given:
            groups.setdefault(fingerprint(cell.moments.spec.identity()), []).append(cell)
    recipes: list[MomentsRecipe] = []
    key_of: dict[str, str] = {}
    for members in groups.values():
        entry = members[0].source or spec.moments
        layers = tuple(sorted({layer for cell in members for layer in cell.layers}))
        users = [cell for cell in members if cell.spec.moments.is_given] or members
        moments = members[0].moments.spec
        key = fingerprint({"moments": moments.identity(), "layers": list(layers)})[:16]
        recipes.append(
            MomentsRecipe(
                key=key,
                corpus=inputs.moments.corpus(entry),
                sentences=entry.sentences,
                tokens=entry.tokens,
                max_tokens_per_text=entry.max_tokens_per_text,
                layers=layers,
                gradients=bool(moments.gradients),
                trajectory=users[0].id,
            )
        )
        key_of |= {cell.id: key for cell in members}
    return recipes, key_of


def _trajectory_plan(cell: Cell, sweep: SweepSpec, ids: EvaluationIds, moments: str | None) -> TrajectoryPlan:
    spec, method = cell.spec, cell.method
    wanted = sweep.wanted_checkpoints(spec.stream.edits)
    return TrajectoryPlan(
        id=cell.id,
        model=cell.model.entry.label,
        model_digest=spec.model_digest,
        dtype=spec.dtype,
        title=cell.entry.title,
        method=method.name,
        editor=method.editor_name,
        regularizer="+".join(method.regularizer_names) or None,
        dataset=cell.stream.name,
        order=cell.stream.order_name,
        seed=spec.seed,
        batch_size=spec.batch_size,
        own_batches=sweep.has_own_batches,
        edits=spec.stream.edits,
        stream_digest=spec.stream_digest,
        wanted=wanted,
        moments=moments,
        keep_keys=sweep.keep_keys,
        axes=cell.axes,
        code=tuple(f"{kind}/{row.name}" for kind, row in cell.outside.items()),
        evaluations=ids.of_checkpoints(spec, wanted, cell.moments),
        tuned_at=tuned_at(sweep, wanted),
    )


def _bases(cells: list[Cell], scorers: dict[str, Description], ids: EvaluationIds) -> Iterator[BasePlan]:
    """Yield the scores of unedited models, each once.

    General ability depends on the model alone, geometry on the model and the layers, edit quality on the model and the
    stream whose requests are scored.
    """
    seen = set()
    for cell in cells:
        for kind, scorer in scorers.items():
            asks = kind not in ("general", "geometry")
            # A plugin's evaluator may read both.
            layers = cell.spec.hyperparameters.places if kind not in ("general", "edit_quality") else ()
            digest = cell.spec.stream_digest if asks else None
            generation = cell.spec.generation_digest if scorer.reads_generation else None
            same = (kind, cell.spec.model_digest, cell.spec.dtype, layers, digest, generation)
            if same in seen:
                continue
            seen.add(same)
            evaluation = ids.of_base(kind, cell.spec, layers, digest)
            yield BasePlan(
                model=cell.model.entry.label,
                model_digest=cell.spec.model_digest,
                dtype=cell.spec.dtype,
                layers=layers,
                dataset=cell.stream.name if asks else None,
                order=cell.stream.order_name if asks else None,
                seed=cell.spec.seed if asks else None,
                stream_digest=digest,
                evaluation=evaluation,
                trajectory=cell.id,
            )
