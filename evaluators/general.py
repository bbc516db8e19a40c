"""General ability: lm-eval tasks on the live model, with a health beside each score."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from lm_eval import evaluate
from lm_eval.api.task import Task
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from transformers import PreTrainedTokenizerBase

from evaluators.guarded_lm import GuardedHFLM, RowCounts, guarded_lm, quiet_harness, tokenizer_for_harness
from evaluators.random_state import kept_random_state
from evaluators.rows import (
    Health,
    Score,
    Scored,
    Subject,
    collapses,
    make_score,
    mean_stderr,
    rate_stderr,
    total_health,
)
from evaluators.tasks_catalog import Suite, harness_version, load_tasks, suite_identity, suite_of
from sphere_core.errors import InputError

__all__ = ["GeneralAbility", "GeneralAbilitySettings"]

_VERSION = 1
_SEED = 1234
_MEAN = "general_mean"


class GeneralAbilitySettings(BaseModel):
    """What general ability is measured with.

    `tasks`: names of shipped suites, folders of task YAMLs, or single YAML files. `limit`: only the first so
    many documents of each task. `batch_size`: rows of one forward pass.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["general"] = "general"
    tasks: tuple[str, ...] = Field(min_length=1)
    batch_size: PositiveInt = 64
    limit: PositiveInt | None = None


class GeneralAbility:
    """Scores tasks one by one with the weights the model holds at that moment.

    Tasks and their data are loaded once. No response and no request is ever cached: the harness's own caches
    do not know which weights answered.
    """

    kind = "general"
    reads_generation = False
    reads_previous = False
    reads_moments = False

    def __init__(self, settings: GeneralAbilitySettings) -> None:
        self.settings = settings
        self._suites = [suite_of(entry) for entry in settings.tasks]
        names = [suite.name for suite in self._suites]
        if len(set(names)) < len(names):
            raise InputError(
                "two entries of 'tasks' have the same name",
                where=f"evaluator 'general', field tasks: {', '.join(names)}",
                remedy="rename a folder or file",
            )
        self._loaded: list[tuple[Suite, dict[str, Task]]] | None = None
        self._tokenizers: tuple[PreTrainedTokenizerBase, PreTrainedTokenizerBase] | None = None

    def identity(self) -> dict[str, object]:
        """Everything but the subject that can change a score, with the digests of all task files."""
        return {
            "kind": self.kind,
            "version": _VERSION,
            "lm_eval": harness_version(),
            "settings": self.settings.model_dump(mode="json", exclude={"tasks"}),
            "suites": [suite_identity(suite) for suite in self._suites],
        }

    def score(self, subject: Subject) -> Scored:
        """Return the rows of each task's metrics and health, and a mean row for each whole suite.

        The mean is the plain one over the tasks' first metrics, leaving out those where less is better.
        Raises InputError where the harness refuses a task.
        """
        loaded = self.load()
        with quiet_harness():
            lm = guarded_lm(subject.model, self._tokenizer(subject), batch_size=self.settings.batch_size)
        rows: list[Score] = []
        for suite, tasks in loaded:
            primaries = []
            for name, task in tasks.items():
                scores = self._score_task(lm, name, task)
                primaries.append(scores[0])
                rows.extend(scores)
            if suite.whole:
                rows.extend(_suite_rows(suite, primaries))
        return Scored(rows)

    def _score_task(self, lm: GuardedHFLM, name: str, task: Task) -> list[Score]:
        _require_room(lm, name, task)
        lm.reset_counts()
        with quiet_harness(), kept_random_state(lm.device):
            torch.manual_seed(_SEED)
            task.set_fewshot_seed(_SEED)
            found = evaluate(
                lm,
                {"tasks": {name: task}, "groups": {}, "group_map": {}},
                limit=self.settings.limit,
                bootstrap_iters=0,
                log_samples=True,
            )
        if found is None:
            raise RuntimeError("the harness returned nothing: this process is not rank 0")
        return list(_task_rows(name, task, found["results"][name], found["samples"][name], lm.counts))

    def load(self) -> list[tuple[Suite, dict[str, Task]]]:
        """Return each suite's tasks by name, loading them on first use; raises InputError for a bad task."""
        if self._loaded is None:
            with quiet_harness():
                self._loaded = load_tasks(self._suites)
        return self._loaded

    def _tokenizer(self, subject: Subject) -> PreTrainedTokenizerBase:
        original = subject.model.tokenizer
        if self._tokenizers is None or self._tokenizers[0] is not original:
            self._tokenizers = (original, tokenizer_for_harness(original))
        return self._tokenizers[1]


def _task_rows(
    name: str, task: Task, results: Mapping[str, Any], samples: Sequence[Mapping[str, Any]], counts: RowCounts
) -> Iterator[Score]:
    """Yield one row a metric, the task's first metric first, then its health."""
    protocol = f"lm_eval-{harness_version()}"
    filters = list(dict.fromkeys(sample["filter"] for sample in samples))
    better = task.higher_is_better()
    for metric, key in _metric_keys(task, results):
        documents = [sample for sample in samples if sample["filter"] == key]
        value = float(results[f"{metric},{key}"])
        yield make_score(
            metric if key == "none" else f"{metric},{key}",
            protocol,
            value,
            _stderr(value, [sample.get(metric) for sample in documents]),
            n=len(documents),
            health=_health(documents, counts),
            higher_is_better=better.get(metric),
            task=name,
        )
    if task.OUTPUT_TYPE not in ("multiple_choice", "generate_until"):
        return
    documents = [sample for sample in samples if sample["filter"] == filters[0]]
    health = _health(documents, counts)
    answers = [_answer(sample) for sample in documents]
    shares = {"top_answer_share": Counter(answers).most_common(1)[0][1] / len(answers)}
    if any(isinstance(answer, str) for answer in answers):
        shares["empty_share"] = sum(answer == "" for answer in answers) / len(answers)
    for metric, share in shares.items():
        stderr = rate_stderr(share, len(answers))
        yield make_score(
            metric, protocol, share, stderr, n=len(answers), health=health, higher_is_better=None, task=name
        )


def _metric_keys(task: Task, results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (metric, filter) of each result; metrics in the order of the task's YAML."""
    keys = []
    for key, value in results.items():
        metric, comma, chosen = key.partition(",")
        if comma and not metric.endswith("_stderr") and isinstance(value, int | float | np.number):
            keys.append((metric, chosen))
    order = list(task.higher_is_better())
    return sorted(keys, key=lambda item: order.index(item[0]) if item[0] in order else len(order))


def _stderr(value: float, per_document: Sequence[object]) -> float | None:
    """Return the standard error where the score is a mean of numbers: binomial for zeros and ones."""
    numbers = [float(item) for item in per_document if isinstance(item, int | float | np.number)]
    if not numbers or len(numbers) != len(per_document) or not math.isclose(value, float(np.mean(numbers))):
        return None
    if all(number in (0.0, 1.0) for number in numbers):
        return rate_stderr(value, len(numbers))
    return mean_stderr(numbers)


def _answers(sample: Mapping[str, Any]) -> list[float] | None:
    """Return the log-likelihoods of a document's choices, or None for a generated text."""
    found = sample["filtered_resps"]
    if isinstance(found[0], tuple | list) and len(found[0]) == 2 and not isinstance(found[0][0], str):
        return [float(item[0]) for item in found]
    if isinstance(found[0], float):
        return [float(item) for item in found]
    return None


def _answer(sample: Mapping[str, Any]) -> int | str:
    likelihoods = _answers(sample)
    if likelihoods is not None:
        return int(np.argmax(likelihoods))
    first = sample["filtered_resps"][0]
    return str(first[0] if isinstance(first, list) else first).strip()


def _health(documents: Sequence[Mapping[str, Any]], counts: RowCounts) -> Health:
    """Count documents whose likelihoods are not finite, or whose best choice is shared.

    The rows that the model was seen to answer with non-finite or flat logits count too, up to the number of
    documents: a generated text shows neither, and equal logits tie only choices of equal length.
    """
    nonfinite, tied = 0, 0
    for sample in documents:
        likelihoods = _answers(sample)
        if likelihoods is None:
            continue
        if not all(math.isfinite(value) for value in likelihoods):
            nonfinite += 1
        elif len(likelihoods) > 1 and likelihoods.count(max(likelihoods)) > 1:
            tied += 1
    n = len(documents)
    return Health(n, min(n, max(nonfinite, counts.nonfinite)), min(n, max(tied, counts.flat)))


def _suite_rows(suite: Suite, primaries: Sequence[Score]) -> Iterator[Score]:
    kept = [score for score in primaries if score.higher_is_better]
    if not kept:
        return
    values = [score.value for score in kept if score.value is not None]
    errors = [score.stderr for score in kept if score.stderr is not None]
    parts = [Health(score.n, score.nonfinite, score.tied) for score in kept]
    complete = len(values) == len(kept)
    yield make_score(
        _MEAN,
        kept[0].protocol,
        sum(values) / len(values) if complete else math.nan,
        math.hypot(*errors) / len(kept) if len(errors) == len(kept) else None,
        n=sum(score.n for score in kept),
        health=total_health(parts),
        part_collapsed=not complete or any(collapses(part) for part in parts),
        higher_is_better=True,
        task=suite.name,
    )


def _require_room(lm: GuardedHFLM, name: str, task: Task) -> None:
    if task.OUTPUT_TYPE != "generate_until":
        return
    options: dict[str, Any] = task.config.generation_kwargs or {}
    wanted = int(options.get("max_gen_toks") or lm.max_gen_toks)
    if wanted >= lm.max_length:
        raise InputError(
            f"task '{name}' generates up to {wanted} tokens; the model has {lm.max_length} positions",
            where=f"task '{name}', generation_kwargs.max_gen_toks",
            remedy=f"set max_gen_toks below {lm.max_length}",
        )
