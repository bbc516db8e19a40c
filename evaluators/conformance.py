"""What every evaluator must do, checked on anybody's class: on the embedded model, in a few seconds."""

from collections.abc import Mapping
from typing import Any

import torch

from evaluators.base import Score, Scored, Subject
from evaluators.plugins.rows import EvaluatorRow, build_outside, outside_settings
from sphere_core.conformance import (
    NotConformingError,
    checked_plugins,
    embedded_model,
    embeddings,
    few_requests,
    generators,
    what_failed,
)
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.fingerprint import canonical_json

__all__ = ["check_evaluator"]

_EDITS, _LAYERS = 3, (0, 1)


def check_evaluator(*, name: str, row: EvaluatorRow, settings: Mapping[str, Any] | None = None) -> None:
    """Check an evaluator on the embedded model; `settings` are its own, defaults if left out.

    Raises InputError for a row that a sweep would refuse, NotConformingError for a broken rule: its identity is plain
    data, it returns scores, equal ones a second time, leaves weights, tokenizer and random generators as they were, and
    scores a model whose logits are not finite without an error and without a number.
    """
    found = checked_plugins("evaluator", name, row).find("evaluator", name)
    if found is None:
        raise InputError(f"no evaluator '{name}'")
    chosen = outside_settings(found, settings or {}, where="check")
    evaluator = build_outside(chosen)
    try:
        canonical_json(chosen.identity(evaluator))
    except (TypeError, ValueError) as error:
        raise NotConformingError(f"rule: identity() is plain data; found: {error}") from error
    model = embedded_model()
    model.open_sites(_LAYERS)
    subject = Subject(model, few_requests(_EDITS), _EDITS)
    masters, words = model.masters(), model.tokenizer.padding_side
    drawn = generators()
    try:
        first = evaluator.score(subject)
    except (Exception, SystemExit) as error:  # whatever the evaluator's own code raises
        raise NotConformingError(f"rule: a model is scored without an error; found: {what_failed(error)}") from error
    _require_scores(first)
    if not model.holds(masters) or model.tokenizer.padding_side != words:
        raise NotConformingError("rule: the subject is left as it was; found: other weights or another padding side")
    if generators() != drawn:
        raise NotConformingError("rule: the process's random generators are left as they were; found: one has moved")
    if evaluator.score(subject).rows != first.rows or build_outside(chosen).score(subject).rows != first.rows:
        raise NotConformingError("rule: equal subjects have equal scores; found: a second call gives others")
    _require_no_number_of_a_collapsed_model(build_outside(chosen), subject)


def _require_scores(scored: object) -> None:
    if not isinstance(scored, Scored) or not scored.rows or not all(isinstance(row, Score) for row in scored.rows):
        raise NotConformingError("rule: score() returns Scored with a Score for each number; found: something else")
    keys = [(row.metric, row.protocol, row.site, row.task) for row in scored.rows]
    if len(set(keys)) != len(keys):
        raise NotConformingError("rule: a metric has one row per protocol, site and task; found: a repeated one")


def _require_no_number_of_a_collapsed_model(evaluator: Any, subject: Subject) -> None:
    with torch.no_grad():
        embeddings(subject.model).fill_(torch.nan)
        for site in subject.model.sites:
            subject.model.set_weight(site, torch.full_like(subject.model.weight(site), torch.nan))
    try:
        rows = evaluator.score(subject).rows
    except Exception as error:  # whatever the evaluator's own code raises
        raise NotConformingError(
            f"rule: a model that is not finite is a result; found: {what_failed(error)}"
        ) from error
    numbers = [row.metric for row in rows if row.value is not None]
    if numbers:
        raise NotConformingError(f"rule: a model that is not finite has no number; found: one for {numbers[0]}")
