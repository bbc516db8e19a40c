"""The table of scored probes: every (prompt, target) pair of all edits, scored once in one batched pass."""

from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from evaluators.edit_quality.encoding import Encoder, Pair
from evaluators.edit_quality.pair_scores import PairScores, require_room, score_pairs
from sphere_core.models import EditableModel
from sphere_core.requests import EditRequest, KnownFact, overwritten_cases

__all__ = ["NO_CONTRAST", "ProbeTable", "ask", "probe_texts", "score_probes"]

NO_CONTRAST = -1


@dataclass(frozen=True)
class ProbeTable:
    """One entry per probe, in the order of the stream, and the scores of the distinct pairs they point to.

    `edit` is the request's 1-based place in the stream, `probe` the probe's 0-based place in its request.
    `target` and `contrast` index `pairs` and `scores`; a probe without contrast has `NO_CONTRAST`. Probes of one
    `unit` are variants of one question: one right answer among them is enough. `agreed` counts a pair's tokens that
    are predicted as the unedited model predicts them, -1 if it was not compared.
    """

    edit: np.ndarray
    probe: np.ndarray
    role: np.ndarray
    unit: np.ndarray
    target: np.ndarray
    contrast: np.ndarray
    pairs: tuple[Pair, ...]
    scores: PairScores
    agreed: np.ndarray | None = None


@dataclass
class _Asked:
    """Probes on their way into a table; pairs that are equal are asked once."""

    index: dict[Pair, int]
    units: dict[object, int]

    def pair(self, pair: Pair) -> int:
        return self.index.setdefault(pair, len(self.index))

    def unit(self, *key: object) -> int:
        return self.units.setdefault(key, len(self.units))


def score_probes(
    model: EditableModel,
    encoder: Encoder,
    requests: Sequence[EditRequest],
    *,
    token_budget: int,
    chosen: Sequence[int] | None = None,
    unknown: Set[KnownFact] = frozenset(),
) -> ProbeTable:
    """Score every probe of the requests with the weights the model holds now.

    `chosen` are the 1-based places of the requests that are asked; None: all of them. Requests that a later one
    contradicts are left out: their probes expect an answer that has been replaced, and the later request has
    the current one. Probes with a condition that is `unknown` to the unedited model are left out too. Equal pairs
    are scored once. Raises InputError for a probe that cannot be encoded or
    does not fit the model's positions, before any forward pass.
    """
    asked = _Asked({}, {})
    columns: list[tuple[int, int, str, int, int, int]] = []
    gone = overwritten_cases(requests)
    for edit in chosen if chosen is not None else range(1, len(requests) + 1):
        request = requests[edit - 1]
        for place, probe in enumerate(() if request.case_id in gone else request.probes):
            if unknown and not unknown.isdisjoint(probe.known_before):
                continue
            form = encoder.form(probe)
            unit = asked.unit(edit, probe.role, place if probe.group is None else probe.group)
            target = asked.pair(Pair(probe.prompt, probe.target, form))
            contrast = NO_CONTRAST
            if probe.contrast is not None:
                contrast = asked.pair(Pair(probe.prompt, probe.contrast, form))
            columns.append((edit, place, probe.role, unit, target, contrast))
    edits, places, roles, units, targets, contrasts = zip(*columns, strict=True) if columns else ((),) * 6
    pairs = tuple(asked.index)
    return ProbeTable(
        edit=np.asarray(edits, dtype=np.int64),
        probe=np.asarray(places, dtype=np.int64),
        role=np.asarray(roles, dtype=object),
        unit=np.asarray(units, dtype=np.int64),
        target=np.asarray(targets, dtype=np.int64),
        contrast=np.asarray(contrasts, dtype=np.int64),
        pairs=pairs,
        scores=ask(model, encoder, pairs, token_budget=token_budget),
    )


def ask(model: EditableModel, encoder: Encoder, pairs: Sequence[Pair], *, token_budget: int) -> PairScores:
    """Encode pairs and score them; raises InputError for one that cannot be encoded or is too long."""
    encoded = encoder.encode(pairs)
    require_room(model, pairs, encoded)
    return score_pairs(model, encoded, token_budget=token_budget)


def probe_texts(requests: Sequence[EditRequest]) -> pa.Table:
    """Return the texts of a stream's probes, one row per probe, by edit and place; scores leave them out."""
    asked = [
        (edit, place, request, probe)
        for edit, request in enumerate(requests, start=1)
        for place, probe in enumerate(request.probes)
    ]
    columns: dict[str, pa.Array] = {
        "edit": pa.array([edit for edit, *_ in asked], pa.int32()),
        "probe": pa.array([place for _, place, *_ in asked], pa.int16()),
        "case_id": pa.array([request.case_id for _, _, request, _ in asked], pa.string()),
        "relation": pa.array([request.relation for _, _, request, _ in asked], pa.string()),
    }
    for name in ("role", "group", "prompt", "target", "contrast"):
        # SQL reserves `group`.
        column = "probe_group" if name == "group" else name
        columns[column] = pa.array([getattr(probe, name) for *_, probe in asked], pa.string())
    return pa.table(columns)
