"""Null spaces of second moments, computed once below a sweep's root and shared by all its trajectories.

A symmetric eigendecomposition of a `[14336, 14336]` matrix takes minutes. Each null space is stored as one file with
its thinner side, which is mapped: trajectories on one node share its pages.
"""

from collections.abc import Callable
from dataclasses import replace

import torch

from sphere_core.foundation.fingerprint import fingerprint
from sphere_core.foundation.storage import Storage
from sphere_core.moments.files import read_moments, write_moments
from sphere_core.moments.null_space import null_space
from sphere_core.moments.record import SecondMoments, require_second_moment
from sphere_core.numerics.linalg import Subspace
from sphere_core.numerics.placement import decomposition_device, device_name
from sphere_core.trajectory_spec import TrajectorySpec
from workflows.store.build_lock import building
from workflows.store.layout import moments_lock, null_space_path

__all__ = ["with_null_spaces"]


def with_null_spaces(
    moments: SecondMoments,
    spec: TrajectorySpec,
    storage: Storage,
    *,
    recipe: str | None,
    where: str,
    on_wait: Callable[[str], None],
    device: torch.device,
    on_layer: Callable[[str, int, int, str], None] = lambda stage, done, of, unit: None,
) -> SecondMoments:
    """Return moments with the null space of each edited layer, read from the store or else computed and stored.

    The bits are those of `null_space`, whichever process computes it; one process computes, the others wait. `recipe`
    is the key of the moments if they were built below this root, `where` is the place in error messages. An imported
    null space is not changed. Raises InputError for invalid moments, or if no direction is below the threshold. On a
    `device` with room for it the decomposition runs there, and is stored separately from those of other kinds of
    processor. `on_layer` receives how many layers are done.
    """
    spaces = dict(moments.null_spaces)
    layers = spec.hyperparameters.layers
    for done, layer in enumerate(layers):
        on_layer("null spaces", done, len(layers), "layers")
        # Those of experts are small, and are made where they are used.
        if layer in moments.by_layer and layer not in spaces and layer not in moments.routed:
            spaces[layer] = _null_space(moments, layer, spec, storage, recipe, where, on_wait, device)
    return replace(moments, null_spaces=spaces)


def _null_space(
    moments: SecondMoments,
    layer: int,
    spec: TrajectorySpec,
    storage: Storage,
    recipe: str | None,
    where: str,
    on_wait: Callable[[str], None],
    device: torch.device,
) -> Subspace:
    hyperparameters = spec.hyperparameters
    rule = {"threshold": hyperparameters.nullspace_threshold, "share": hyperparameters.nullspace_share}
    # Threads change the order of sums inside the decomposition.
    made_of: dict[str, object] = {"moments": spec.moments.identity(), "recipe": recipe, "threads": spec.threads}
    runs_on = decomposition_device(device, moments.by_layer[layer].shape[0])
    if runs_on.type != "cpu":
        made_of["device"] = device_name(runs_on)
    key = fingerprint({**made_of, "layer": layer, **rule})[:16]
    path = null_space_path(key)
    with building(storage, moments_lock(key), lambda: storage.exists(path), on_wait=on_wait) as mine:
        if mine:
            moment = moments.by_layer[layer]
            require_second_moment(moment, what=f"the second moment of layer {layer}", where=where)
            spaces = {layer: null_space(moment, **rule, device=runs_on)}
            found = SecondMoments({}, moments.count, {**moments.provenance, **rule}, spaces)
            storage.write_file(path, lambda scratch: write_moments(found, scratch))
    with storage.as_file(path) as local:
        return read_moments(local).null_spaces[layer]
