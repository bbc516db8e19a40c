"""Every evaluator on a ghost accelerator: the rows of the CPU, and at the second checkpoint no constant moves again."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from eval_parts import LAYERS, golden_requests, tiny_llama
from ghost import Counts, ghost
from ghost_parts import on_ghost, over_two_ghosts
from task_parts import evaluator, know_folder

from evaluators.base import Evaluator, Previous, Scored, Subject
from evaluators.edit_quality.evaluator import EditQuality, EditQualitySettings
from evaluators.edit_quality.free_running import FluencySettings, GenerationSettings
from evaluators.geometry.evaluator import Geometry, GeometrySettings
from sphere_core.models import EditableModel
from sphere_core.moments.record import SecondMoments

_PAPERS = ("correct", "paper-memit", "paper-alphaedit", "paper-sphere")
_GENERATION = GenerationSettings(tokens=5, fluency=FluencySettings(length=12))


def general(folder: Path) -> Evaluator:
    return evaluator(know_folder(folder))


MAKERS: dict[str, Callable[[Path], Evaluator]] = {
    "edit_quality": lambda _: EditQuality(EditQualitySettings(protocols=_PAPERS, generation=_GENERATION)),
    "geometry": lambda _: Geometry(GeometrySettings()),
    "general": general,
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


@pytest.mark.parametrize("place", [on_ghost, over_two_ghosts])
@pytest.mark.parametrize("kind", MAKERS)
def test_rows_are_those_of_the_cpu(tmp_path: Path, kind: str, place: Callable[[EditableModel], EditableModel]) -> None:
    expected = checkpoints(tiny_llama, MAKERS[kind](tmp_path / "cpu"))
    with ghost() as counts:
        found = checkpoints(lambda: place(tiny_llama()), MAKERS[kind](tmp_path / "ghost"), counts)
        for one, other in zip(found, expected, strict=True):
            assert len(one.rows) == len(other.rows) > 0
            for mine, theirs in zip(one.rows, other.rows, strict=True):
                assert (mine.metric, mine.status, mine.site, mine.task) == (
                    theirs.metric,
                    theirs.status,
                    theirs.site,
                    theirs.task,
                )
                assert mine.value == pytest.approx(theirs.value, rel=1e-9, abs=1e-12)
        assert counts.kernels > 0
        # Second moments and directions of the unedited weight are there since the first checkpoint; the weights before
        # are handed over from the host.
        width, weights = 176, 3 * 4 * 64 * 176
        assert counts.to_device < 3 * 8 * width**2 + (weights if kind == "geometry" else 0)
