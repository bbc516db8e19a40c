"""Identities of evaluators, and the ids of what they score."""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

from evaluators.registry import Description
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.fingerprint import fingerprint
from sphere_core.hyperparameters.places import Place
from sphere_core.trajectory_spec import TrajectorySpec
from workflows.store.plan import Evaluation
from workflows.store.row_schema import EVALUATION_VERSION
from workflows.sweeps.grids import SweepText
from workflows.sweeps.moment_inputs import ResolvedMoments
from workflows.sweeps.paths import resolve_path
from workflows.sweeps.spec import SweepSpec

__all__ = ["EvaluationIds", "evaluator_settings"]


def evaluator_settings(
    spec: SweepSpec, text: SweepText, folder: Path, *, trust_task_code: bool
) -> dict[str, dict[str, Any]]:
    """Return the settings of each evaluator of a sweep, by kind, with files made absolute.

    Raises InputError for a sweep without evaluators, and for one that would trust code by itself.
    """
    settings = spec.evaluators.settings()
    if not settings:
        raise InputError(
            "no evaluator is given",
            where=text.where(("evaluators",)),
            remedy="name at least one of edit_quality, general, geometry",
        )
    for kind, values in settings.items():
        if not isinstance(values, dict):
            raise InputError(
                f"the settings of evaluator '{kind}' are {values!r:.40}",
                where=text.where(("evaluators", kind)),
                remedy=f"write {kind}: {{}}, or keys and values below it",
            )
    if "trust_task_code" in settings.get("general", {}):
        raise InputError(
            "a sweep file cannot trust code",
            where=text.where(("evaluators", "general", "trust_task_code")),
            remedy="take the key out, and give --trust-task-code with the command",
        )
    found = {kind: {"kind": kind, **_located_settings(values, folder)} for kind, values in settings.items()}
    if trust_task_code and "general" in found:
        found["general"]["trust_task_code"] = True
    return found


def _located_settings(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return evaluator settings with files and folders made absolute; names of suites and tasks stay."""
    located = {**settings}
    if isinstance(settings.get("tasks"), list):
        located["tasks"] = [_located_entry(entry, folder) for entry in settings["tasks"]]
    if isinstance(settings.get("include_path"), list):
        located["include_path"] = [str(resolve_path(str(entry), folder)) for entry in settings["include_path"]]
    if isinstance(settings.get("corpus"), str):
        located["corpus"] = str(resolve_path(settings["corpus"], folder))
    return located


def _located_entry(entry: Any, folder: Path) -> Any:
    """Return an entry of `tasks`, a name or a mapping with one; an existing path is made absolute."""
    if isinstance(entry, dict) and isinstance(entry.get("task"), str):
        return {**entry, "task": _located_entry(entry["task"], folder)}
    if not isinstance(entry, str):
        return entry
    path = resolve_path(entry, folder)
    return str(path) if path.exists() else entry


class EvaluationIds:
    """The ids of a sweep's evaluations: an id is the hash of everything that enters its scores.

    For a trajectory that is the evaluator, numerics, and what the evaluator declares to read besides a checkpoint and
    its requests. Thousands of trajectories share it, and each such id is computed once.
    """

    def __init__(self, scorers: Mapping[str, Description]) -> None:
        """`scorers` by the kind of evaluator."""
        self._scorers = scorers
        self._known: dict[Hashable, Evaluation] = {}

    def of_checkpoints(
        self, spec: TrajectorySpec, wanted: tuple[int, ...], moments: ResolvedMoments
    ) -> tuple[Evaluation, ...]:
        """Return the evaluations of a trajectory's checkpoints; `wanted` are the edit counts of all of them."""
        return tuple(self._of_checkpoint(kind, spec, wanted, moments) for kind in self._scorers)

    def _of_checkpoint(
        self, kind: str, spec: TrajectorySpec, wanted: tuple[int, ...], moments: ResolvedMoments
    ) -> Evaluation:
        scorer = self._scorers[kind]
        key = (
            kind,
            spec.dtype,
            spec.threads,
            spec.generation_digest if scorer.reads_generation else None,
            wanted if scorer.reads_previous else None,
            moments if scorer.reads_moments else None,
        )
        if key not in self._known:
            schedule = {"wanted": list(wanted)} if scorer.reads_previous else {}
            read = schedule | ({"moments": moments.spec.identity()} if scorer.reads_moments else {})
            self._known[key] = Evaluation(kind=kind, id=_evaluation_id(scorer, spec, read))
        return self._known[key]

    def of_base(
        self, kind: str, spec: TrajectorySpec, layers: tuple[Place, ...], stream_digest: str | None
    ) -> Evaluation:
        """Return the evaluation of the unedited model of a trajectory, at some layers, on a stream's requests."""
        subject = {"base": spec.model_digest, "layers": list(layers), "stream_digest": stream_digest}
        return Evaluation(kind=kind, id=_evaluation_id(self._scorers[kind], spec, subject))


def _evaluation_id(scorer: Description, spec: TrajectorySpec, subject: dict[str, Any]) -> str:
    identity = {
        "rows": EVALUATION_VERSION,
        "evaluator": scorer.identity,
        "dtype": spec.dtype,
        "threads": spec.threads,
        **({"generation_digest": spec.generation_digest} if scorer.reads_generation else {}),
        **subject,
    }
    return fingerprint(identity)[:12]
