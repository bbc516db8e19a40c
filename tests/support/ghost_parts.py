"""Models on ghost devices: whole on one, or split over two as `device: split` does."""

import torch
from accelerate import dispatch_model
from ghost import DEVICES

from sphere_core.models import EditableModel

__all__ = ["on_ghost", "over_two_ghosts"]


def on_ghost(model: EditableModel) -> EditableModel:
    """Move a model to the first ghost device."""
    torch.nn.Module.to(model.network, DEVICES[0])
    return _anew(model)


def over_two_ghosts(model: EditableModel) -> EditableModel:
    """Put the embeddings, a head tied to them and the first layer on one ghost device, and the rest on the other."""
    layers = model.family.layers
    embeddings = model.network.get_input_embeddings().weight
    places = {}
    for name, module in model.network.named_modules():
        if name.startswith(f"{layers}.") and name.count(".") == layers.count(".") + 1:
            places[name] = DEVICES[0] if name.endswith(".0") else DEVICES[1]
        elif not list(module.children()) and not name.startswith(f"{layers}."):
            places[name] = DEVICES[0] if getattr(module, "weight", None) is embeddings else DEVICES[1]
    dispatch_model(model.network, device_map=places, main_device=DEVICES[0], force_hooks=True)
    return _anew(model)


def _anew(model: EditableModel) -> EditableModel:
    """Return the model with no site open: sites that were opened before it moved are of the host."""
    return EditableModel(model.network, model.tokenizer, model.family, base_digest=model.base_digest)
