"""Scoring an edited model's probes: one record at a time, as published, against one batched pass."""

from collections.abc import Sequence

import torch

from benchmarks.models import factworld
from benchmarks.rows import Row, comparison
from benchmarks.timing import interleaved
from evaluators.base import Subject
from evaluators.edit_quality.evaluator import EditQuality, EditQualitySettings
from evaluators.edit_quality.metrics import probe_rows
from sphere_core.models import EditableModel
from sphere_core.requests import EditRequest

__all__ = ["compared", "factworld_scoring", "measure", "record_by_record"]

_DIFFERENCE = 1e-5


def measure(threads: int) -> list[Row]:
    """Score as many edits of the fact world as the quickstart makes, in both ways."""
    return [factworld_scoring(count=500, repeats=3)]


def factworld_scoring(*, count: int, repeats: int) -> Row:
    """Compare NLLs (largest absolute difference) and time; a flipped argmax counts as an infinite difference."""
    model, requests, _ = factworld(count)
    return compared("scoring of probes, fact world", model, requests, repeats=repeats)


def compared(
    what: str, model: EditableModel, requests: Sequence[EditRequest], *, repeats: int, tolerance: float = _DIFFERENCE
) -> Row:
    """Return the row of all probes of these requests; from the second repeat on ours knows their token ids."""
    subject = Subject(model, tuple(requests), len(requests))
    evaluator = EditQuality(EditQualitySettings(agreement=False))
    timed = interleaved(
        lambda: record_by_record(model, requests),
        lambda: probe_rows(evaluator.probe_table(subject), "correct"),
        repeats=repeats,
    )
    ours = [
        (row["nll_mean"], row["contrast_nll_mean"], row["correct"] == row["tokens"]) for row in timed.ours.to_pylist()
    ]
    flipped = any(one[2] != other[2] for one, other in zip(ours, timed.plain, strict=True))
    worst = max(abs(one[side] - other[side]) for one, other in zip(ours, timed.plain, strict=True) for side in (0, 1))
    return comparison(
        what,
        f"{len(requests)} edits, {len(ours)} probes with contrast; fp32; published: a record at a time, all logits",
        timed.seconds,
        wall=timed.wall,
        required=5,
        difference=float("inf") if flipped else worst,
        tolerance=tolerance,
    )


@torch.no_grad()
def record_by_record(model: EditableModel, requests: Sequence[EditRequest]) -> list[tuple[float, float, bool]]:
    """Return (NLL of the target, NLL of the contrast, target exact) of every probe, one forward per record."""
    found = []
    for request in requests:
        texts, spans = [], []
        for probe in request.probes:
            head = len(model.tokenizer(probe.prompt)["input_ids"])
            for answer in (probe.target, str(probe.contrast)):
                ids = model.tokenizer(f"{probe.prompt} {answer}")["input_ids"]
                texts.append(ids)
                spans.append((head, len(ids)))
        longest = max(map(len, texts))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in texts], device=model.device)
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in texts], device=model.device)
        logits = model.network(input_ids=ids, attention_mask=mask).logits
        scored = [_target(logits[row], ids[row], *span) for row, span in enumerate(spans)]
        found += [(scored[row][0], scored[row + 1][0], scored[row][1]) for row in range(0, len(scored), 2)]
    return found


def _target(logits: torch.Tensor, ids: torch.Tensor, start: int, end: int) -> tuple[float, bool]:
    losses, exact = [], True
    for place in range(start, end):
        step, token = logits[place - 1], int(ids[place])
        losses.append(-step.log_softmax(dim=0)[token].item())
        exact = exact and int(step.argmax()) == token
    return sum(losses) / len(losses), exact
