"""B5: edit quality of many records, and geometry of one checkpoint, with default settings."""

from dataclasses import replace

import torch

from benchmarks.gpu.clock import median_seconds, peak_memory
from benchmarks.gpu.setting import Setting
from evaluators.base import Subject
from evaluators.edit_quality.evaluator import EditQuality
from evaluators.edit_quality.settings import EditQualitySettings
from evaluators.geometry.evaluator import Geometry, GeometrySettings
from sphere_core.models import EditableModel
from sphere_core.moments.record import SecondMoments
from sphere_core.requests import EditRequest, Probe

__all__ = ["measure"]

# An edit of CounterFact has one rewrite, two paraphrases and ten neighbours, each with both answers.
_PARAPHRASES, _NEIGHBOURS = 2, 10


def measure(setting: Setting, device: torch.device, moments: SecondMoments) -> dict[str, float]:
    """Return seconds and records per second of edit quality, and seconds of a second checkpoint's geometry."""
    model = setting.model(device)
    sites = model.open_sites(setting.layers)
    requests, _ = setting.requests(model, setting.scored)
    subject = Subject(model, tuple(_asked(model, requests)), setting.scored, moments=moments)
    quality = EditQuality(EditQualitySettings(agreement=False))
    with peak_memory(device) as peak:
        seconds = median_seconds(lambda: quality.score(subject), device, repeats=1)
    found = {
        "edit quality, s": seconds,
        "edit quality, records/s": setting.scored / seconds,
        "edit quality, peak GB": peak["gb"],
    }
    geometry = Geometry(GeometrySettings())
    for site in sites:
        model.set_weight(site, model.weight(site) * (1 + 1e-3 * torch.randn_like(model.weight(site))))
    with peak_memory(device) as peak:
        # The first call measures the unedited weights too.
        found["geometry, s"] = median_seconds(lambda: geometry.score(subject), device, repeats=1)
    return found | {"geometry, peak GB": peak["gb"]}


def _asked(model: EditableModel, requests: list[EditRequest]) -> list[EditRequest]:
    """Return the requests with probes: other requests' prompts serve as paraphrases and neighbours."""
    found = []
    for index, request in enumerate(requests):
        others = [requests[(index + step) % len(requests)] for step in range(1, _PARAPHRASES + _NEIGHBOURS + 1)]
        answers = (request.target_new, others[0].target_new)
        probes = [Probe("rewrite", request.question, *answers)]
        probes += [Probe("paraphrase", other.question, *answers) for other in others[:_PARAPHRASES]]
        probes += [Probe("neighborhood", other.question, *answers[::-1]) for other in others[_PARAPHRASES:]]
        found.append(replace(request, probes=tuple(probes)))
    return found
