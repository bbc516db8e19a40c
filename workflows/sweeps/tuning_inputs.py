"""The fine-tunings of a sweep: their texts found and counted, and each as a trajectory that follows another."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from sphere_core.foundation.errors import InputError, inside
from sphere_core.plugins.found import NO_PLUGINS, Plugins
from sphere_core.requests import EditRequest
from sphere_core.streams.stream import load_stream
from sphere_core.trajectory_spec import TrajectorySpec
from sphere_core.tuning.settings import TuningSpec
from workflows.moments.corpus_texts import find_corpus
from workflows.store.plan import ParentCheckpoint, TrajectoryPlan, TuningData
from workflows.sweeps.evaluations import EvaluationIds
from workflows.sweeps.grids import SweepText
from workflows.sweeps.moment_inputs import ResolvedMoments
from workflows.sweeps.spec import SweepSpec
from workflows.sweeps.tuning_entry import AfterwardsEntry, TuningDataEntry
from workflows.tuning.texts import tuning_texts

__all__ = ["TuningInputs", "tuned_at"]


def tuned_at(spec: SweepSpec, wanted: tuple[int, ...]) -> tuple[int, ...]:
    """Return the edit counts of the checkpoints that are fine-tuned; `wanted` are those of all checkpoints."""
    return tuple(sorted({edits for entry in spec.afterwards for edits in entry.checkpoints or wanted[-1:]}))


class TuningInputs:
    """Finds the texts of fine-tunings; `folder` is the folder of the sweep file."""

    def __init__(self, spec: SweepSpec, text: SweepText, folder: Path, plugins: Plugins = NO_PLUGINS) -> None:
        self._spec, self._text, self._folder, self._plugins = spec, text, folder, plugins
        self._requests: dict[tuple[str, int], tuple[EditRequest, ...]] = {}
        self._counted: set[tuple[str, str, int]] = set()
        self._seen: dict[str, str] = {}

    def children(
        self, plan: TrajectoryPlan, spec: TrajectorySpec, moments: ResolvedMoments, ids: EvaluationIds
    ) -> Iterator[tuple[TrajectoryPlan, TrajectorySpec]]:
        """Yield the fine-tunings of one trajectory's checkpoints, each with its specification.

        Raises InputError for a checkpoint that is not wanted, and for data that is missing or holds too few texts.
        """
        for index, entry in enumerate(self._spec.afterwards):
            where = self._text.where(("afterwards", index))
            data = self._data(entry.data, where)
            for edits in entry.checkpoints or (plan.wanted[-1],):
                if edits not in plan.wanted:
                    listed = ", ".join(map(str, plan.wanted))
                    raise InputError(
                        f"there is no checkpoint after {edits} edits", where=where, remedy=f"there are {listed}"
                    )
                self._require_texts(data, spec, edits, where)
                child = self._child(plan, spec, moments, ids, entry=entry, data=data, edits=edits)
                first = self._seen.setdefault(child[0].id, child[0].title)
                if first != child[0].title:
                    raise InputError(
                        f"'{child[0].title}' and '{first}' are the same fine-tuning",
                        where=where,
                        remedy="two entries have the same settings, data and checkpoint: leave one out",
                    )
                yield child

    def _child(
        self,
        plan: TrajectoryPlan,
        spec: TrajectorySpec,
        moments: ResolvedMoments,
        ids: EvaluationIds,
        *,
        entry: AfterwardsEntry,
        data: TuningData,
        edits: int,
    ) -> tuple[TrajectoryPlan, TrajectorySpec]:
        tuning = TuningSpec(edits=edits, settings=entry.finetune, data=data.identity())
        child = spec.model_copy(update={"tuning": tuning})
        at = "" if edits == plan.wanted[-1] else f" at {edits}"
        changes: Mapping[str, object] = {
            "id": child.id,
            "title": f"{plan.title}{at}, then {entry.title}",
            "wanted": entry.wanted,
            "keep_keys": False,
            "tuned_at": (),
            "evaluations": ids.of_checkpoints(child, entry.wanted, moments),
            "parent": ParentCheckpoint(trajectory=plan.id, edits=edits, tuning=entry.title),
            "tuning": data,
        }
        return plan.model_copy(update=changes), child

    def _data(self, entry: TuningDataEntry, where: str) -> TuningData:
        corpus = None
        if entry.corpus is not None:
            sources = (entry.corpus,) if isinstance(entry.corpus, str) else entry.corpus
            with inside(where):
                corpus = find_corpus(
                    sources,
                    folder=self._folder,
                    config=entry.config,
                    revision=entry.revision,
                    field=entry.field,
                    asks_hub=False,
                )
        if entry.prompt_field is not None and (corpus is None or corpus.kind != "files"):
            raise InputError("prompt_field is for JSONL files", where=where, remedy="leave it out")
        return TuningData(
            corpus=corpus,
            people=entry.people,
            prompt_field=entry.prompt_field,
            texts=entry.texts,
            mentions=entry.mentions,
            old_answers=entry.old_answers,
        )

    def _require_texts(self, data: TuningData, spec: TrajectorySpec, edits: int, where: str) -> None:
        """Read the texts once for each stream; those of a hub data set are read when they are needed."""
        key = (data.model_dump_json(), spec.stream_digest, edits)
        if key in self._counted or (data.corpus is not None and data.corpus.kind == "hub"):
            return
        tuning_texts(data, self._edits(spec)[:edits], where=where)
        self._counted.add(key)

    def _edits(self, spec: TrajectorySpec) -> tuple[EditRequest, ...]:
        key = (spec.stream_digest, spec.seed)
        if key not in self._requests:
            stream = spec.stream.model_copy(update={"sha256": None})
            self._requests[key] = load_stream(stream, spec.seed, self._plugins)
        return self._requests[key]
