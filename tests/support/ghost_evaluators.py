"""Every evaluator on two checkpoints of an edited model, on the host or on a ghost accelerator."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from eval_parts import LAYERS, golden_requests, tiny_llama
from ghost import Counts, ghost
from ghost_parts import on_ghost
from task_parts import evaluator, know_folder

from evaluators.base import Evaluator, Previous, Scored, Subject
from evaluators.edit_quality.evaluator import EditQuality, EditQualitySettings
from evaluators.edit_quality.free_running import FluencySettings, GenerationSettings
from evaluators.geometry.evaluator import Geometry, GeometrySettings
from sphere_core.models import EditableModel
from sphere_core.moments.record import SecondMoments

__all__ = ["MAKERS", "checkpoints", "counted_evaluator"]

_PAPERS = ("correct", "paper-memit", "paper-alphaedit", "paper-sphere")
_GENERATION = GenerationSettings(tokens=5, fluency=FluencySettings(length=12))


def _general(folder: Path) -> Evaluator:
    return evaluator(know_folder(folder))


MAKERS: dict[str, Callable[[Path], Evaluator]] = {
    "edit_quality": lambda _: EditQuality(EditQualitySettings(protocols=_PAPERS, generation=_GENERATION)),
    "geometry": lambda _: Geometry(GeometrySettings()),
    "general": _general,
}


def checkpoints(make: Callable[[], EditableModel], found: Evaluator, counts: Counts | None = None) -> list[Scored]:
    """Score two checkpoints of one model, edited at random; counts begin anew before the second."""
    model = make()
    sites = model.open_sites(LAYERS)
    generator = torch.Generator().manual_seed(11)
    moments = {}
    for site in sites:
        samples = torch.randn(site.d_in, 2 * site.d_in, generator=generator, dtype=torch.float64)
        moments[site.layer] = samples @ samples.T / samples.shape[1]
    asked = tuple(replace(request, generation_prompts=(request.question,)) for request in golden_requests()[:4])
    subject = Subject(model, asked, edits=4, moments=SecondMoments(moments, 1, {}))
    scored = []
    for _ in range(2):
        for site in sites:
            change = 0.02 * torch.randn(site.d_out, site.d_in, generator=generator)
            model.set_weight(site, model.weight(site) + change.to(model.weight(site)))
        if counts is not None:
            counts.clear()
        scored.append(found.score(subject))
        assert scored[-1].failures == ()
        weights = {name: weight.cpu() for name, weight in model.edited_weights().items()}
        subject = replace(subject, previous=Previous(4, weights))
    return scored


def counted_evaluator(kind: str, folder: Path) -> Counts:
    """Return what scoring the second checkpoint, and reading its weights, asks of the device."""
    with ghost() as counts:
        checkpoints(lambda: on_ghost(tiny_llama()), MAKERS[kind](folder), counts)
        return counts
