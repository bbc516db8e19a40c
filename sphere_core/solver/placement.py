"""Where the parts of an edit run: each layer's solver beside the layer or on the host, and how many requests in a pass.

What a site's solver keeps through a trajectory (the prior's factor or basis, the second moment, the key history) can be
gigabytes. It is moved once to where it is used. On a device without room for it the layer's solver runs on the host:
then a batch's keys and residuals and the two factors of its update cross over, and nothing else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["BESIDE_LAYERS", "Placement", "solvers_on_host"]


@dataclass(frozen=True)
class Placement:
    """The layers whose solver runs on the host; every other runs beside its layer.

    `decomposes_on` is where a null space is found that no file holds yet (None: where the second moment lies), and
    `requests_per_pass` how many targets are optimised at once (None: as the hyperparameters say). `reads_ahead`: there
    is room for the decompositions of a batch's weights beside its targets (`regularizers/read_ahead.py`).
    """

    on_host: frozenset[int] = frozenset()
    decomposes_on: "torch.device | None" = None
    requests_per_pass: int | None = None
    reads_ahead: bool = True


BESIDE_LAYERS = Placement()


def solvers_on_host(
    needed: Mapping[int, float], devices: Mapping[int, str], rooms: Mapping[str, float]
) -> frozenset[int]:
    """Return the layers whose solver runs on the host, given the bytes of each layer's solver.

    `devices` names each layer's device and `rooms` the bytes that solvers may take on each accelerator; a device
    without a room is the host. Rooms are given away in order of layers.
    """
    left = dict(rooms)
    on_host = set()
    for layer in sorted(needed):
        name = devices[layer]
        if name in left and needed[layer] > left[name]:
            on_host.add(layer)
        elif name in left:
            left[name] -= needed[layer]
    return frozenset(on_host)
