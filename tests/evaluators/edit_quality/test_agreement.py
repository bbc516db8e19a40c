"""Agreement with the unedited model, against its definition."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from eval_parts import by_name, golden_requests, tiny_llama

from evaluators.base import Subject
from evaluators.edit_quality.encoding import Pair, PairEncoder
from evaluators.edit_quality.evaluator import EditQuality, EditQualitySettings
from sphere_core.models import EditableModel
from sphere_core.requests import EditRequest, Probe


def plain_agreement(model: EditableModel, requests: tuple[EditRequest, ...]) -> dict[str, float]:
    """The definition: argmax tokens of both models at the target's positions, one unpadded row a probe."""

    def argmaxes() -> list[list[int]]:
        probes = [probe for request in requests for probe in request.probes if probe.role == "neighborhood"]
        found = []
        for pair in PairEncoder(model.tokenizer).encode([Pair(probe.prompt, probe.target) for probe in probes]):
            with torch.no_grad():
                logits = model.network(torch.tensor([pair.ids])).logits[0]
            found.append(logits[pair.boundary - 1 : -1].argmax(dim=1).tolist())
        return found

    edited, weights = argmaxes(), model.edited_weights()
    model.restore_base()
    before = argmaxes()
    model.load_weights(weights)
    shares = [np.mean(np.equal(one, other)) for one, other in zip(edited, before, strict=True)]
    return {"token": float(np.mean(shares)), "argmax": float(np.mean([share == 1 for share in shares]))}


def test_agreement_is_with_what_the_unedited_model_says() -> None:
    model, warm = tiny_llama(), EditQuality(EditQualitySettings())
    requests = golden_requests()
    long = tuple(
        replace(request, probes=(*request.probes, Probe("neighborhood", "The river of the city", "is very old today")))
        for request in requests
    )
    subject = Subject(model, long, edits=24)
    rows = by_name(warm.score(subject).rows)
    assert rows["agreement", "token", None].value == rows["agreement", "argmax", None].value == 1.0
    for seed in (0, 1):
        site = model.open_sites([1])[0]
        noise = torch.randn(model.weight(site).shape, generator=torch.Generator().manual_seed(seed))
        model.set_weight(site, model.base_weight(site) + 0.1 * noise)
        digest = model.weights_digest()
        rows, expected = by_name(warm.score(subject).rows), plain_agreement(model, long)
        assert model.weights_digest() == digest
        for measure in ("token", "argmax"):
            assert rows["agreement", measure, None].value == pytest.approx(expected[measure])
        assert 0 < expected["argmax"] < expected["token"] < 1
    without = EditQuality(EditQualitySettings(agreement=False)).score(subject)
    assert "agreement" not in {row.metric for row in without.rows}
