"""Where the parts of an edit run on an accelerator, from what they hold and what a device has beside the weights.

One rule for a run and for `sphere doctor`. It looks at the total memory of a device, never at what happens to be free,
so that a trajectory's numbers do not depend on what ran before: they are the same on the same kind of device.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from sphere_core.costs.memory import Workload, ahead_bytes, opened_bytes, solver_bytes, target_bytes, write_bytes
from sphere_core.costs.shape import ModelShape, shape_of_network
from sphere_core.costs.workload import TextLengths, workload_of
from sphere_core.hyperparameters import Hyperparameters
from sphere_core.locate.prompts import target_ids, text_ids
from sphere_core.locate.templates import Contexts
from sphere_core.methods import Method
from sphere_core.models import EditableModel
from sphere_core.moments.record import SecondMoments
from sphere_core.numerics.placement import decomposition_device, total_memory
from sphere_core.requests import EditRequest
from sphere_core.solver.placement import BESIDE_LAYERS, Placement, solvers_on_host

__all__ = ["SolverLayout", "on_accelerator", "place", "solver_layout"]

# Requests whose lengths are looked at; a pass is padded to its longest row.
_SAMPLED = 256
# Of a device's memory beside the model's weights, the part for what solvers keep; activations have the rest.
_SOLVER_SHARE = 0.5
# Share of what is left for activations that they may take: the rest is for fragments between them.
_ACTIVATION_SHARE = 0.85


def place(
    model: EditableModel,
    method: Method,
    hyperparameters: Hyperparameters,
    requests: Sequence[EditRequest],
    *,
    batch_size: int,
    contexts: Contexts,
    moments: SecondMoments | None,
) -> Placement:
    """Return the placement for a loaded model and a stream; a model on the host has everything beside its layers."""
    sites = model.open_sites(hyperparameters.places)
    devices = {site.layer: model.weight(site).device for site in sites}
    if all(device.type == "cpu" for device in devices.values()):
        return BESIDE_LAYERS
    work = workload_of(
        method,
        hyperparameters,
        dtype_bytes=model.dtype.itemsize,
        batch=batch_size,
        edits=len(requests),
        contexts=sum(len(group) for group in contexts),
        lengths=_lengths(model, requests, contexts),
        on_accelerator=True,
    )
    needed = {
        site.layer: solver_bytes(site.d_in, work, _basis_bytes(moments, site.layer), max(1, site.experts))
        for site in sites
    }
    rooms = {str(device): float(room) for device, room in _rooms(model).items()}
    shape = shape_of_network(model.network, model.family)
    places = {layer: str(device) for layer, device in devices.items()}
    on_host = solvers_on_host(needed, places, {name: _solver_room(shape, work, room) for name, room in rooms.items()})
    kept = sum(size for layer, size in needed.items() if layer not in on_host)
    left = sum(rooms.values()) - kept
    per_pass, ahead = _passes(shape, work, left)
    return Placement(on_host, decomposition_device(devices[sites[0].layer], sites[0].d_in), per_pass, ahead)


@dataclass(frozen=True)
class SolverLayout:
    """The layers whose solver runs on the host, the bytes that solvers may take on the accelerator, and those that
    are left there beside the weights and the solvers."""

    on_host: frozenset[int]
    room: float
    left: float


def solver_layout(shape: ModelShape, work: Workload, layers: Sequence[int], memory: float) -> SolverLayout:
    """Return where solvers would run on one accelerator with `memory` bytes, before anything is loaded."""
    each = solver_bytes(shape.d_in, work, blocks=shape.blocks)
    beside_weights = memory - shape.parameters * work.dtype_bytes
    room, name = _solver_room(shape, work, beside_weights), "accelerator"
    on_host = solvers_on_host(dict.fromkeys(layers, each), dict.fromkeys(layers, name), {name: room})
    return SolverLayout(on_host, room, beside_weights - (len(layers) - len(on_host)) * each)


def on_accelerator(shape: ModelShape, work: Workload, layers: Sequence[int], memory: float) -> Workload:
    """Return the workload as it would be placed on one accelerator with `memory` bytes, before anything is loaded."""
    layout = solver_layout(shape, work, layers, memory)
    per_pass, ahead = _passes(shape, work, layout.left)
    return replace(work, host_sites=len(layout.on_host), requests_per_pass=per_pass, reads_ahead=ahead)


def _solver_room(shape: ModelShape, work: Workload, room: float) -> float:
    """Return the part of `room` bytes for what solvers keep: half, and never what writing a batch requires."""
    return min(_SOLVER_SHARE * room, room - opened_bytes(shape, work) - write_bytes(shape, work))


def _passes(shape: ModelShape, work: Workload, room: float) -> tuple[int, bool]:
    """Return how many requests are in a pass of targets, and whether regularizers decompose beside the passes.

    Passes are as few as memory allows and of equal sizes, which leaves the most memory beside each. Decompositions run
    beside them if that takes no pass more.
    """
    if not work.has_targets:
        return work.requests_per_pass, False
    count = -(-work.batch // max(1, _requests_that_fit(shape, work, room)))
    each = -(-work.batch // count)
    return each, work.principal and each <= _requests_that_fit(shape, work, room - ahead_bytes(shape, work))


def _requests_that_fit(shape: ModelShape, work: Workload, room: float) -> int:
    """Return how many requests' activations fit into `room` bytes: at most a batch, and below one if none does.

    A `requests_per_pass` other than the default is a limit too, in case the prediction is too small.
    """
    each = target_bytes(shape, replace(work, batch=1, requests_per_pass=1))
    default = Hyperparameters.model_fields["requests_per_pass"].default
    most = work.batch if work.requests_per_pass == default else min(work.batch, work.requests_per_pass)
    return min(most, int(_ACTIVATION_SHARE * (room - opened_bytes(shape, work)) / each))


def _lengths(model: EditableModel, requests: Sequence[EditRequest], contexts: Contexts) -> TextLengths:
    """Return the longest prompt, in its longest context, and the longest target of the stream's first requests."""
    sample = requests[:_SAMPLED]
    prompt = max((len(text_ids(model.tokenizer, request.question)) for request in sample), default=1)
    around = max(len(text_ids(model.tokenizer, context)) for group in contexts for context in group)
    target = max((len(target_ids(model.tokenizer, request)) for request in sample), default=1)
    return TextLengths(prompt + around, target, 1)


def _rooms(model: EditableModel) -> dict[torch.device, int]:
    """Return the bytes of each accelerator beside the weights it holds."""
    held: Counter[torch.device] = Counter()
    for parameter in model.network.parameters():
        held[parameter.device] += parameter.numel() * parameter.element_size()
    return {device: total_memory(device) - size for device, size in held.items() if device.type != "cpu"}


def _basis_bytes(moments: SecondMoments | None, layer: int) -> float | None:
    space = None if moments is None else moments.null_spaces.get(layer)
    return None if space is None else float(space.basis.numel() * space.basis.element_size())
