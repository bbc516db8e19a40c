"""Fine-tuning of one checkpoint, as a generator of checkpoints. Runs without a cluster."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from sphere_core.checkpoints import Checkpoint, EditorState
from sphere_core.foundation.errors import InputError
from sphere_core.hyperparameters.places import Place
from sphere_core.models.editable import EditableModel
from sphere_core.numerics.placement import finite_anywhere
from sphere_core.tuning.optimiser import adamw, clipped
from sphere_core.tuning.parameters import TunedParameter, tuned_parameters
from sphere_core.tuning.settings import TuningSettings
from sphere_core.tuning.text import TuningText
from sphere_core.tuning.texts import EncodedText, encode_text, step_places, supervise_texts

__all__ = ["run_tuning"]

_OWNER = "tuning"


@dataclass(frozen=True)
class _Progress:
    """The tensors that the optimiser moves and their two moments, by `PARAMETER/TENSOR`."""

    trained: Mapping[str, torch.Tensor]
    first: Mapping[str, torch.Tensor]
    second: Mapping[str, torch.Tensor]

    def of(self, name: str) -> dict[str, torch.Tensor]:
        """Return the tensors of one parameter by their own names."""
        prefix = f"{name}/"
        return {key.removeprefix(prefix): value for key, value in self.trained.items() if key.startswith(prefix)}

    def state(self) -> EditorState:
        """Return what a checkpoint keeps of this."""
        parts = {"trained": self.trained, "first": self.first, "second": self.second}
        named = {f"{part}/{key}": value for part, values in parts.items() for key, value in values.items()}
        return EditorState().with_part(_OWNER, EditorState(named))

    @classmethod
    def read(cls, state: EditorState, base: Mapping[str, torch.Tensor]) -> "_Progress":
        """Read what a checkpoint keeps, each tensor to where its parameter is."""
        own = state.part(_OWNER)
        parts = [
            {key: value.to(base[key.rpartition("/")[0]].device) for key, value in own.part(part).tensors.items()}
            for part in ("trained", "first", "second")
        ]
        return cls(*parts)


def run_tuning(
    trajectory_id: str,
    model: EditableModel,
    parent: Checkpoint,
    texts: Sequence[TuningText],
    settings: TuningSettings,
    *,
    places: Sequence[Place],
    seed: int,
    resume: Checkpoint | None,
) -> Iterator[Checkpoint]:
    """Fine-tune what a checkpoint of a trajectory answers with, and yield a checkpoint after every optimiser step.

    Starts from `parent`, its scored weights and attachment, which stays installed; or from `resume`, a checkpoint of
    this fine-tuning, whose parent is `parent` too: what follows is bit for bit what an uninterrupted run gives.
    `places` are those of the weights that the method edits. The loss is the mean negative log-likelihood of the tokens
    that are predicted in a step. Weights and both moments of AdamW are fp32 whatever the network's dtype. `seed` draws
    the order of the texts and the adapters. A checkpoint holds the tuned parameters whole. If they stop being finite,
    the last one is marked `collapsed`. The model is left tuned. Raises InputError for texts of which nothing is
    predicted.
    """
    model.restore_base()
    layers = sorted({site.layer for site in model.open_sites(places)})
    model.load_weights(parent.weights, parent.attachment)
    parameters = tuned_parameters(model, settings, layers)
    base = {one.name: one.canonical(_master(model, one.name)) for one in parameters}
    progress, done = _start(parameters, base, seed), 0
    if resume is not None:
        model.load_weights(resume.weights, resume.attachment, resume.tuned)
        progress, done = _Progress.read(resume.state, base), resume.position
        if resume.collapsed:
            return
    encoded = [encode_text(model.tokenizer, text, settings.max_length) for text in texts]
    encoded = [text for text in encoded if text.predicted]
    if not encoded:
        raise InputError("no text has a token to predict", where="afterwards, key data", remedy="give longer texts")
    for step in range(done + 1, settings.steps + 1):
        chosen = [encoded[place] for place in step_places(len(encoded), seed, step, settings.batch_size)]
        with model.clock.stage("gradients"):
            gradients = _gradients(model, parameters, chosen)
        progress = _moved(progress, parameters, base, gradients, settings, step)
        _install(model, parameters, base, progress)
        weights, tuned = model.edited_weights(), model.overlays.masters
        collapsed = not finite_anywhere([*weights.values(), *tuned.values()])
        yield Checkpoint(
            trajectory_id,
            parent.edits,
            weights,
            progress.state(),
            parent.contexts,
            collapsed,
            attachment=parent.attachment,
            tuned=tuned,
            steps=step,
        )
        if collapsed:
            return


def _master(model: EditableModel, name: str) -> torch.Tensor:
    """Return a parameter's fp32 master in stored orientation; it becomes an overlay if it is not a site."""
    for site in model.sites:
        if site.name == name:
            return site.stored(model.weight(site))
    model.overlays.set(name, model.network.get_parameter(name).detach().float().clone())
    return model.overlays.masters[name]


def _start(parameters: Sequence[TunedParameter], base: Mapping[str, torch.Tensor], seed: int) -> _Progress:
    generator = torch.Generator().manual_seed(seed)
    trained = {
        f"{one.name}/{key}": value
        for one in parameters
        for key, value in one.trained.start(base[one.name], generator).items()
    }
    zeros = {key: torch.zeros_like(value) for key, value in trained.items()}
    return _Progress(trained, zeros, zeros)


def _gradients(
    model: EditableModel, parameters: Sequence[TunedParameter], texts: Sequence[EncodedText]
) -> dict[str, torch.Tensor]:
    """Return the gradient of every parameter, canonical and fp32."""
    supervision = supervise_texts(texts, model.device)
    live = [model.network.get_parameter(one.name) for one in parameters]
    try:
        for parameter in live:
            parameter.requires_grad_(True)
        loss = supervision.token_loss(model) / len(supervision.targets)
        # A parameter may have no part in the loss: an attachment can take a module's output away.
        found = torch.autograd.grad(loss, live, allow_unused=True)
    finally:
        for parameter in live:
            parameter.requires_grad_(False)
    return {
        one.name: one.canonical(torch.zeros_like(parameter) if gradient is None else gradient).float()
        for one, parameter, gradient in zip(parameters, live, found, strict=True)
    }


def _moved(
    progress: _Progress,
    parameters: Sequence[TunedParameter],
    base: Mapping[str, torch.Tensor],
    gradients: Mapping[str, torch.Tensor],
    settings: TuningSettings,
    step: int,
) -> _Progress:
    """Return what AdamW (arXiv 1711.05101) makes of a step's gradients."""
    slopes = {
        f"{one.name}/{key}": value
        for one in parameters
        for key, value in one.trained.gradients(base[one.name], progress.of(one.name), gradients[one.name]).items()
    }
    if settings.max_grad_norm is not None:
        slopes = clipped(slopes, settings.max_grad_norm)
    moments = adamw(
        progress.trained, progress.first, progress.second, slopes, settings.rate(step), settings.weight_decay, step
    )
    return _Progress(*moments)


def _install(
    model: EditableModel, parameters: Sequence[TunedParameter], base: Mapping[str, torch.Tensor], progress: _Progress
) -> None:
    sites = {site.name: site for site in model.sites}
    with model.clock.stage("write"):
        for one in parameters:
            stored = one.stored(one.trained.weight(base[one.name], progress.of(one.name)))
            if one.name in sites:
                model.set_weight(sites[one.name], sites[one.name].canonical(stored))
            else:
                model.overlays.set(one.name, stored.contiguous())
