"""The search of a calibration: one hyperparameter at a time, its budget divided over what is still to be tried.

Coordinate search: an axis takes each of its candidates while the others keep the best so far. The first editor
searches every axis; the best two are then compared on requests that took no part. Other editors take
its layers, learning rate and clamp, and search their own ridge. What is decided depends on the trials alone, with the
seconds that they took, so that a search that is repeated with the trials of a log makes the same ones.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sphere_core.foundation.errors import InputError
from workflows.runs.calibration_bench import RIDGES, Candidate, Trial

__all__ = ["Axis", "Limits", "Search", "default_spans", "parse_spans"]

Axis = str
RunTrial = Callable[[str, Candidate, bool], Trial]

_FINALISTS = 2
# Ridges that a later editor tries at least beside its first one, if the budget has room for that.
_LATER_RIDGES = 2
# Published values span these decades; smaller ridges are what small models want, whose keys are small.
_RIDGES: Mapping[str, tuple[float, ...]] = {
    "memit": (15000.0, 1500.0, 150.0, 15.0, 1.5),
    "alphaedit": (10.0, 1.0, 0.1, 100.0),
}
_RATES = (0.5, 0.1, 1.0)
_CLAMPS = (0.75, 4.0, 1.5)
# The ridge again at the end: what the other axes chose may want another one.
_AXES = ("ridge", "layers", "v_lr", "clamp_norm_factor", "ridge")
# Where published spans begin, as a share of the depth: 4-8 of 32 (Llama-3-8B), 13-17 of 48 (GPT-2 XL).
_STARTS = (1 / 8, 1 / 4, 1 / 16)
_SMALL = 6


def default_spans(layers: int) -> list[tuple[int, ...]]:
    """Return the spans of consecutive layers that are tried, the first one first: a sixth of the depth, at most five.

    They begin where published ones do. A model of at most six layers is tried with wider ones too.
    """
    width = max(1, min(5, layers // 6))
    spans = [tuple(range(layers - 1)), tuple(range(width + 1))] if layers <= _SMALL else []
    spans += [tuple(range(start, start + width)) for start in (math.floor(layers * share + 0.5) for share in _STARTS)]
    return [span for span in dict.fromkeys(spans) if span and span[-1] < layers]


def parse_spans(text: str, layers: int) -> list[tuple[int, ...]]:
    """Return the spans of a text such as `4-8,8-12,11`; raises InputError for another text or a layer there is not."""
    spans = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdecimal() or (last and not last.isdecimal()):
            raise InputError(f"'{part}' is not a span of layers", where="--spans", remedy="for example 4-8,8-12")
        span = tuple(range(int(first), int(last or first) + 1))
        if not span or span[-1] >= layers:
            remedy = f"the model has the layers 0 to {layers - 1}; write the lower one first"
            raise InputError(f"the span '{part}' holds no layers of the model", where="--spans", remedy=remedy)
        spans.append(span)
    return list(dict.fromkeys(spans))


@dataclass(frozen=True)
class Limits:
    """What all trials together may cost: seconds, with what is before the first one, and their number."""

    seconds: float
    trials: int


class Search:
    """Runs the trials of one calibration, and knows which were not run and which candidate each editor is left with.

    `others` are trials of the same calibration under another budget: its axes are walked without them, so that a search
    that was interrupted makes the same trials, and the finalists are chosen among them too.
    """

    def __init__(
        self,
        editors: Sequence[str],
        spans: Sequence[tuple[int, ...]],
        limits: Limits,
        objective: str,
        run: RunTrial,
        others: Sequence[Trial] = (),
    ) -> None:
        self._editors, self._spans, self._limits, self._objective, self._run = editors, spans, limits, objective, run
        self._others = others
        self.trials: list[Trial] = []
        self.best: dict[str, Candidate] = {}

    def all_trials(self) -> Iterator[Trial]:
        """Yield every trial as it ends: of each editor those that search, then its finalists on other requests."""
        for place, editor in enumerate(self._editors):
            first = self._first(editor)
            yield self._tried(editor, first, held_out=False)
            jobs = [(editor, axis) for axis in (_AXES if place == 0 else _AXES[:1])]
            jobs += [(later, "ridge") for later in self._editors[place + 1 :]]
            while jobs and jobs[0][0] == editor:
                yield from self._along(jobs)
                jobs.pop(0)
            finalists = sorted(self._all_searched(editor), key=self._rank, reverse=True)[:_FINALISTS]
            for number, finalist in enumerate(finalists):
                if number == 0 or self._has_room(finalist.candidate, held_out=True, reserve=self._reserve(editor, 0)):
                    yield self._tried(editor, finalist.candidate, held_out=True)
            decided = [trial for trial in self.trials if trial.editor == editor and trial.held_out]
            self.best[editor] = max(decided, key=self._rank).candidate

    def not_searched(self) -> dict[str, dict[str, list[Any]]]:
        """Return the values that no trial of an editor had, by editor and hyperparameter; of later editors the ridge's,
        as they take the rest from the first."""
        left: dict[str, dict[str, list[Any]]] = {}
        for place, editor in enumerate(self._editors):
            for axis in dict.fromkeys(_AXES if place == 0 else _AXES[:1]):
                had = {getattr(trial.candidate, axis) for trial in self._all_searched(editor)}
                missing = [value for value in self._values(editor, axis) if value not in had]
                if missing:
                    name = RIDGES[editor] if axis == "ridge" else axis
                    left.setdefault(editor, {})[name] = missing
        return left

    def _first(self, editor: str) -> Candidate:
        ridge = _RIDGES[editor][0]
        if self.best:
            return replace(self.best[self._editors[0]], ridge=ridge)
        return Candidate(self._spans[0], _RATES[0], _CLAMPS[0], ridge)

    def _along(self, jobs: Sequence[tuple[str, Axis]]) -> Iterator[Trial]:
        """Yield the trials of the first of the jobs, as many as its share of the budget allows, at least one."""
        editor, axis = jobs[0]
        start = self._leading(editor)
        known = {trial.candidate for trial in self._searched(editor)}
        candidates = [replace(start, **{axis: value}) for value in self._values(editor, axis)]
        left = [candidate for candidate in candidates if candidate not in known]
        first = True
        while left:
            # Ridges are tried outwards from the best one: it may lie at either end of its decades.
            candidate = left[0] if axis != "ridge" else min(left, key=self._leading(editor).decades_to)
            if not self._allows(jobs, candidate, left=len(left), first=first):
                return
            yield self._tried(editor, candidate, held_out=False)
            left.remove(candidate)
            first = False

    def _allows(self, jobs: Sequence[tuple[str, Axis]], candidate: Candidate, *, left: int, first: bool) -> bool:
        reserved, count = reserve = self._reserve(jobs[0][0], _FINALISTS)
        if not self._has_room(candidate, held_out=False, reserve=reserve):
            return False
        wanted, number = left * self._cost(candidate, held_out=False), left
        for editor, axis in jobs[1:]:
            values = len(self._values(editor, axis)) - 1
            wanted += values * (self._cost_of_axis(axis))
            number += values
        seconds = self._limits.seconds - self._spent() - reserved
        share = min(1.0, seconds / wanted if wanted else 1.0, (self._limits.trials - len(self.trials) - count) / number)
        return first or math.floor(left * share) >= 1

    def _reserve(self, editor: str, finalists: int) -> tuple[float, int]:
        """Return the seconds and the trials that must be left: finalists, and of later editors also a few ridges.

        The first trial of a later editor may need what no trial has needed before, as null spaces.
        """
        later = len(self._editors) - 1 - list(self._editors).index(editor)
        full, short = self._cost_of_axis("layers"), self._cost_of_axis("ridge")
        others = later * (_LATER_RIDGES + _FINALISTS)
        return (finalists + later) * full + others * short, finalists + later + others

    def _has_room(self, candidate: Candidate, *, held_out: bool, reserve: tuple[float, int]) -> bool:
        seconds, count = reserve
        cost = self._spent() + self._cost(candidate, held_out=held_out) + seconds
        return cost <= self._limits.seconds and len(self.trials) + 1 + count <= self._limits.trials

    def _spent(self) -> float:
        return sum(trial.seconds + trial.before for trial in self.trials)

    def _cost(self, candidate: Candidate, *, held_out: bool) -> float:
        known = any(
            trial.candidate.targets == candidate.targets and trial.held_out == held_out for trial in self.trials
        )
        return self._cost_of_axis("ridge" if known else "layers")

    def _cost_of_axis(self, axis: Axis) -> float:
        """Return the longest trial so far of those that find targets, or along the ridge of those that have them."""
        seen: set[tuple[bool, tuple[int, float, float]]] = set()
        found, had = [0.0], [0.0]
        for trial in self.trials:
            key = trial.held_out, trial.candidate.targets
            (had if key in seen else found).append(trial.seconds)
            seen.add(key)
        return max(had) if axis == "ridge" and len(had) > 1 else max(found)

    def _values(self, editor: str, axis: Axis) -> Sequence[Any]:
        return {"ridge": _RIDGES[editor], "layers": self._spans, "v_lr": _RATES, "clamp_norm_factor": _CLAMPS}[axis]

    def _searched(self, editor: str) -> list[Trial]:
        return [trial for trial in self.trials if trial.editor == editor and not trial.held_out]

    def _all_searched(self, editor: str) -> list[Trial]:
        """Return the trials that searched with an editor, one for each candidate: of this search, and others.

        A later editor has the first one's layers, learning rate and clamp, and trials of other ones are left out.
        """
        others = [trial for trial in self._others if trial.editor == editor and not trial.held_out]
        if editor != self._editors[0]:
            shared = self.best[self._editors[0]]
            others = [trial for trial in others if replace(trial.candidate, ridge=shared.ridge) == shared]
        return list({trial.candidate: trial for trial in [*others, *self._searched(editor)]}.values())

    def _leading(self, editor: str) -> Candidate:
        return max(self._searched(editor), key=self._rank).candidate

    def _rank(self, trial: Trial) -> tuple[float, float, float]:
        return trial.rank(self._objective)

    def _tried(self, editor: str, candidate: Candidate, *, held_out: bool) -> Trial:
        self.trials.append(self._run(editor, candidate, held_out))
        return self.trials[-1]
