"""Free-running metrics: what the model says by itself after a prompt, without the answer's tokens being given to it.

Teacher forcing hands the model the right answer's first tokens and its length, which makes edits look better than they
are (The Mirage of Model Editing, arXiv 2502.11177). Here prompts are continued greedily until a natural stop, and the
text is compared with the answer. Fluency and consistency are those of Meng et al. (arXiv 2202.05262).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from evaluators.base import Score, Scored, Subject
from evaluators.edit_quality.free_texts import contains, exact, likeness, ngram_entropy
from evaluators.edit_quality.generation import Continuation, Decoding, continue_texts
from evaluators.edit_quality.metrics import METRIC_OF_ROLE, SCORED_ROLES, Outcomes
from evaluators.edit_quality.rows import EditRows
from evaluators.edit_quality.sample import sample_edits
from evaluators.edit_quality.settings import FluencySettings, GenerationSettings
from sphere_core.foundation.errors import InputError
from sphere_core.requests import Probe, overwritten_cases

__all__ = ["generated_scores"]

_Compare = Callable[[str, str], bool]
_MATCHES: tuple[tuple[str, _Compare], ...] = (("exact", exact), ("contains", contains))


@dataclass(frozen=True)
class _Said:
    """One prompt with what was said after it."""

    edit: int
    place: int
    role: str
    unit: str
    probe: Probe | None
    prompt: str
    said: Continuation


def generated_scores(subject: Subject, settings: GenerationSettings, *, seed: int, token_budget: int) -> Scored:
    """Return the free-running rows and the table `generations`, the texts behind them.

    For each role `greedy/exact` and `greedy/contains`, and `score` of the first three roles; with `fluency` also the
    n-gram entropy of continued generation prompts, and their likeness to the reference texts where the data set has
    any. Raises InputError if fluency is asked of a data set without generation prompts.
    """
    edits = len(subject.requests)
    sample = None if settings.sample is None else sample_edits(edits, settings.sample, seed)
    chosen: Sequence[int] = range(1, edits + 1) if sample is None else sample.places
    gone = overwritten_cases(subject.requests)
    chosen = [
        edit
        for edit in chosen
        if (edit - 1) % (settings.every or 1) == 0 and subject.requests[edit - 1].case_id not in gone
    ]
    rows = EditRows("correct", sample)
    decoding = Decoding(settings.tokens, frozenset(settings.stops))
    asked = [
        (edit, place, probe.role, _unit(edit, place, probe), probe, probe.prompt)
        for edit in chosen
        for place, probe in enumerate(subject.requests[edit - 1].probes)
        if probe.role in settings.roles
    ]
    told = continue_texts(subject.model, [prompt for *_, prompt in asked], decoding, token_budget=token_budget)
    answers = [_Said(*one, said) for one, said in zip(asked, told, strict=True)]
    scores = list(_match_rows(rows, answers))
    free: list[_Said] = []
    if settings.fluency is not None:
        free = _continued_prompts(subject, chosen, settings.fluency, seed=seed, token_budget=token_budget)
        scores.extend(_fluency_rows(rows, subject, free, settings.fluency))
    return Scored(scores, {"generations": _table([*answers, *free])})


def _unit(edit: int, place: int, probe: Probe) -> str:
    return f"{edit} {probe.role} {place if probe.group is None else probe.group}"


def _match_rows(rows: EditRows, answers: list[_Said]) -> Iterator[Score]:
    for name, matches in _MATCHES:
        values = [matches(one.said.text, one.probe.target) for one in answers if one.probe is not None]
        found = _outcomes(answers, np.array(values, dtype=float))
        by_role = {role: found.of_role(role) for role in METRIC_OF_ROLE}
        for role, metric in METRIC_OF_ROLE.items():
            yield from rows.mean(metric, f"greedy/{name}", by_role[role])
        yield from rows.combined(f"greedy/{name}", {role: by_role[role] for role in SCORED_ROLES})


def _continued_prompts(
    subject: Subject, chosen: Sequence[int], settings: FluencySettings, *, seed: int, token_budget: int
) -> list[_Said]:
    asked = [
        (edit, place, "generation", f"{edit} {place}", None, prompt)
        for edit in chosen
        for place, prompt in enumerate(subject.requests[edit - 1].generation_prompts)
    ]
    if not any(request.generation_prompts for request in subject.requests):
        raise InputError(
            "fluency is asked of a data set without generation prompts",
            where="evaluator edit_quality, generation.fluency",
            remedy="leave fluency out, or give a data set with generation_prompts (CounterFact has them)",
        )
    top_k = settings.top_k if settings.decoding == "sampled" else None
    decoding = Decoding(settings.length, frozenset(), total=True, top_k=top_k, seed=seed)
    told = continue_texts(subject.model, [prompt for *_, prompt in asked], decoding, token_budget=token_budget)
    return [_Said(*one, said) for one, said in zip(asked, told, strict=True)]


def _fluency_rows(rows: EditRows, subject: Subject, free: list[_Said], settings: FluencySettings) -> Iterator[Score]:
    texts = [one.prompt + one.said.text for one in free]
    entropy = np.array([ngram_entropy(text, settings.words) for text in texts])
    for row in rows.mean("fluency", settings.protocol, _outcomes(free, entropy)):
        # Random words have a high entropy, repetition a low one: neither end is good.
        yield replace(row, higher_is_better=None)
    joined: dict[int, list[str]] = {}
    for one, text in zip(free, texts, strict=True):
        if subject.requests[one.edit - 1].reference_texts:
            joined.setdefault(one.edit, []).append(text)
    if not joined:
        return
    references = [" ".join(subject.requests[edit - 1].reference_texts) for edit in joined]
    said = [" ".join(texts) for texts in joined.values()]
    alike = dict(zip(joined, likeness(said, references, settings.words), strict=True))
    kept = [one for one in free if one.edit in joined]
    yield from rows.mean("consistency", settings.protocol, _outcomes(kept, np.array([alike[one.edit] for one in kept])))


def _outcomes(said: list[_Said], value: np.ndarray) -> Outcomes:
    return Outcomes(
        edit=np.array([one.edit for one in said], dtype=np.int64),
        role=np.array([one.role for one in said], dtype=object),
        unit=np.array([one.unit for one in said], dtype=object),
        value=value,
        finite=np.array([one.said.finite for one in said], dtype=bool),
        tied=np.array([one.said.tied for one in said], dtype=bool),
    )


def _table(said: list[_Said]) -> pa.Table:
    return pa.table(
        {
            "edit": pa.array([one.edit for one in said], pa.int32()),
            "probe": pa.array([one.place for one in said], pa.int16()),
            "role": pa.array([one.role for one in said], pa.string()),
            "prompt": pa.array([one.prompt for one in said], pa.string()),
            "text": pa.array([one.said.text for one in said], pa.string()),
            "tokens": pa.array([len(one.said.ids) for one in said], pa.int16()),
            "stopped": pa.array([one.said.stopped for one in said], pa.string()),
            "tied": pa.array([one.said.tied for one in said], pa.bool_()),
        }
    )
