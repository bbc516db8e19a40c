"""Streams that contradict themselves: some edits are followed, later, by another answer to the same question."""

import random
from collections.abc import Sequence
from dataclasses import replace

from pydantic import BaseModel, ConfigDict, Field

from sphere_core.foundation.errors import InputError
from sphere_core.requests import EditRequest, Probe

__all__ = ["Conflicts", "with_conflicts"]


class Conflicts(BaseModel):
    """How many edits contradict an earlier one, and how much later they come."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: float = Field(gt=0, le=0.5, description="Share of the stream's edits that contradict an earlier one")
    distance: int = Field(ge=1, description="Edits from the contradicted edit to the one that contradicts it")

    def count(self, edits: int) -> int:
        """Return how many of the edits are contradictions, at least one."""
        return max(1, round(self.share * edits))

    @property
    def name(self) -> str:
        """How rows and tables call it."""
        return f"conflicts:{self.share:g}@{self.distance}"


def with_conflicts(
    requests: Sequence[EditRequest], conflicts: Conflicts, *, pool: Sequence[EditRequest], edits: int, seed: int
) -> list[EditRequest]:
    """Return `edits` requests, of which `conflicts.count(edits)` contradict one that came `distance` edits before.

    `requests` are the others, in order; which of them are contradicted is drawn by the seed, each at most once. A
    contradiction has the same prompt and subject and another answer, drawn from the new
    targets that `pool` (the whole data set) has for the same relation, or for any relation if this one has no
    other. It supersedes the earlier request, which is not scored from then on, and its contrast is the
    earlier new target; neighborhood prompts keep the true answer. Raises InputError if the pairs do not fit at
    that distance, or if there is no other answer.
    """
    rng = random.Random(f"conflicts {seed}")
    pairs = _pairs(edits, conflicts, rng)
    answers: dict[str, set[str]] = {}
    for request in pool:
        answers.setdefault(_relation(request), set()).add(request.target_new)
    every = set().union(*answers.values())
    stream: list[EditRequest] = []
    rest = iter(requests)
    for place in range(edits):
        if place not in pairs:
            stream.append(next(rest))
            continue
        earlier = stream[pairs[place]]
        known = {earlier.target_new, earlier.target_true}
        choices = sorted(answers.get(_relation(earlier), set()) - known) or sorted(every - known)
        if not choices:
            raise InputError(
                "there is no other answer to contradict an edit with",
                where=f"stream, key conflicts, case {earlier.case_id}",
                remedy="use a data set with more than one target",
            )
        stream.append(_contradiction(earlier, rng.choice(choices)))
    return stream


def _pairs(edits: int, conflicts: Conflicts, rng: random.Random) -> dict[int, int]:
    """Return, for each place of a contradiction, the place of what it contradicts; no place is in two pairs."""
    wanted = conflicts.count(edits)
    starts = list(range(max(0, edits - conflicts.distance)))
    rng.shuffle(starts)
    taken: set[int] = set()
    pairs: dict[int, int] = {}
    for start in starts:
        if len(pairs) == wanted:
            break
        end = start + conflicts.distance
        if start not in taken and end not in taken:
            taken |= {start, end}
            pairs[end] = start
    if len(pairs) < wanted:
        raise InputError(
            f"{wanted} contradictions at a distance of {conflicts.distance} do not fit into {edits} edits; "
            f"{len(pairs)} do",
            where="stream, key conflicts",
            remedy="lower share or distance",
        )
    return pairs


def _relation(request: EditRequest) -> str:
    return request.relation or request.prompt


def _contradiction(earlier: EditRequest, answer: str) -> EditRequest:
    probes = []
    for probe in earlier.probes:
        if probe.role in ("rewrite", "paraphrase"):
            probes.append(replace(probe, target=answer, contrast=earlier.target_new))
        elif probe.role == "neighborhood":
            probes.append(Probe(probe.role, probe.prompt, probe.target, probe.contrast and answer, probe.group))
    # What followed from the earlier answer (portability, multi-hop, reference texts) does not follow from this one.
    return replace(
        earlier,
        case_id=f"{earlier.case_id}/2",
        target_new=answer,
        target_true=earlier.target_new,
        probes=tuple(probes),
        reference_texts=(),
        supersedes=earlier.case_id,
    )
