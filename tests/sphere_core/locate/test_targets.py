"""Batched, truncated target optimisation against one request at a time through the whole model."""

import pytest
import torch
from tiny_models import CONTEXTS, requests, tiny_model

from sphere_core.hyperparameters import build_hyperparameters
from sphere_core.locate.batch import locate
from sphere_core.locate.objective import ESSENCE_PROMPT
from sphere_core.locate.prompts import encode_prompt, in_context, target_ids
from sphere_core.locate.targets import TargetSettings, optimise_targets
from sphere_core.models import EditableModel
from sphere_core.requests import EditRequest


def settings(layer: int, **changes: float) -> TargetSettings:
    values = {
        "layers": [layer],
        "v_lr": 0.2,
        "v_num_grad_steps": 12,
        "v_weight_decay": 0.1,
        "clamp_norm_factor": 0.9,
        "kl_factor": 0.0625,
    }
    return TargetSettings.of(build_hyperparameters({**values, **changes}, where="test"))


def one_by_one(model: EditableModel, request: EditRequest, hyperparameters: TargetSettings) -> torch.Tensor:
    """The published loop: one request, torch's Adam, full forwards of every row with a hook on the layer."""
    layer = model.layers[hyperparameters.layer]
    templates = [context for group in CONTEXTS for context in group]
    prompts = [encode_prompt(model.tokenizer, in_context(t, request.prompt), request.subject) for t in templates]
    essence = encode_prompt(model.tokenizer, ESSENCE_PROMPT, request.subject)
    target = target_ids(model.tokenizer, request)
    start: list[torch.Tensor] = []
    delta = torch.zeros(model.network.config.hidden_size, requires_grad=True)

    def forward(ids: tuple[int, ...], subject_last: int) -> torch.Tensor:
        def add(_module: object, _args: object, output: object) -> object:
            hidden = output[0] if isinstance(output, tuple) else output
            if not start:
                start.append(hidden[0, subject_last].detach().clone())
            changed = hidden.clone()
            changed[0, subject_last] += delta
            return (changed, *output[1:]) if isinstance(output, tuple) else changed

        handle = layer.register_forward_hook(add)
        try:
            return model.network(input_ids=torch.tensor([ids]), use_cache=False).logits[0].log_softmax(-1)
        finally:
            handle.remove()

    optimiser = torch.optim.Adam([delta], lr=hyperparameters.v_lr)
    initial: torch.Tensor | None = None
    for step in range(hyperparameters.v_num_grad_steps):
        optimiser.zero_grad()
        likelihoods = []
        for prompt in prompts:
            logs = forward((*prompt.ids, *target[:-1]), prompt.subject_last)
            places = torch.arange(len(prompt.ids) - 1, len(prompt.ids) - 1 + len(target))
            likelihoods.append(-logs[places, torch.tensor(target)].mean())
        now = forward(essence.ids, essence.subject_last)[essence.subject_last]
        initial = now.detach() if initial is None else initial
        loss = torch.stack(likelihoods).mean()
        loss = loss + hyperparameters.kl_factor * (now.exp() * (now - initial)).sum()
        loss = loss + hyperparameters.v_weight_decay * delta.norm() / start[0].norm() ** 2
        if float(loss.detach()) < hyperparameters.v_stop_loss or step == hyperparameters.v_num_grad_steps - 1:
            break
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            limit = hyperparameters.clamp_norm_factor * start[0].norm()
            if delta.norm() > limit:
                delta *= limit / delta.norm()
    return (start[0] + delta).detach()


@pytest.mark.parametrize(
    ("family", "layer"), [("llama", 0), ("llama", 1), ("gpt2", 0), ("gpt2", 1), ("gptj", 1), ("gemma2", 0)]
)
def test_batched_targets_equal_one_by_one_targets(family: str, layer: int) -> None:
    model = tiny_model(family)
    model.open_sites([layer])
    hyperparameters = settings(layer)
    batch = locate(model, requests(), CONTEXTS)
    found = optimise_targets(model, batch, hyperparameters)
    for index, request in enumerate(requests()):
        expected = one_by_one(model, request, hyperparameters)
        error = (found.values[:, index] - expected).norm() / expected.norm()
        assert float(error) < 1e-4, request.case_id


def test_requests_leave_one_by_one_and_keep_what_they_reached() -> None:
    model = tiny_model("llama")
    model.open_sites([0])
    batch = locate(model, requests(), CONTEXTS)
    first = optimise_targets(model, batch, settings(0, v_num_grad_steps=8))
    # A stop loss between the losses reached makes some requests leave early and others go on.
    threshold = sorted(first.losses)[2] + 1e-3
    hyperparameters = settings(0, v_num_grad_steps=8, v_stop_loss=threshold)
    found = optimise_targets(model, batch, hyperparameters)
    assert len(set(found.steps)) > 1
    for index, request in enumerate(requests()):
        expected = one_by_one(model, request, hyperparameters)
        assert float((found.values[:, index] - expected).norm() / expected.norm()) < 1e-4


@pytest.mark.parametrize("group", [1, 2, 5])
def test_size_of_a_pass_does_not_matter(group: int) -> None:
    model = tiny_model("gpt2")
    model.open_sites([1])
    batch = locate(model, requests(), CONTEXTS)
    whole = optimise_targets(model, batch, settings(1)).values
    parts = optimise_targets(model, batch, settings(1, requests_per_pass=group)).values
    assert float((whole - parts).norm() / whole.norm()) < 1e-5


def test_clamp_bounds_the_distance_from_the_start() -> None:
    model = tiny_model("llama")
    model.open_sites([1])
    batch = locate(model, requests(), CONTEXTS)
    start = optimise_targets(model, batch, settings(1, v_num_grad_steps=1)).values
    found = optimise_targets(model, batch, settings(1, clamp_norm_factor=0.05)).values
    ratios = (found - start).norm(dim=0) / start.norm(dim=0)
    assert float(ratios.max()) <= 0.05 * (1 + 1e-5)
    assert float(ratios.max()) > 0.049
