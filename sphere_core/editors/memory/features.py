"""Features of prompts: the mean of what one site reads over a prompt's tokens, of the unedited model."""

import torch

from sphere_core.models.activations import capture_inputs
from sphere_core.models.editable import EditableModel

__all__ = ["prompt_feature"]


def prompt_feature(model: EditableModel, prompt: tuple[int, ...], layer: int, opening: int) -> torch.Tensor:
    """Return the mean `[d]`, fp32, of a site's inputs over a prompt's tokens from `opening` on; stops at the site."""
    module = model.network.get_submodule(model.family.site_path(layer))
    ids = torch.tensor([prompt], device=model.device)
    with torch.no_grad():
        seen = capture_inputs({"site": module}, lambda: model.decoder(input_ids=ids, use_cache=False))["site"]
    return seen[0, opening:].float().mean(dim=0)
