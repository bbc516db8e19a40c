"""What each edited layer's output should become, from the one target that was optimised.

Symbols: n requests, L edited sites, Z_i `[h, n]` the output that site i's layer should have at the subject's last
token, H_i that output now.

`spread` (MEMIT, arXiv 2210.07229): the target Z_L is optimised at the last edited layer, and site i of L receives
(Z_L - H_L) / (L - i), i counted from 0. `forward` (FE, arXiv 2605.00358): the target is optimised at the first edited
layer; one forward of the bare prompts with that output in place gives every later layer's own target, and site i
receives Z_i - H_i whole. `root` (MoEEdit's release, arXiv 2602.10965): Z_L is optimised at the last edited layer, and
site i receives (Z_L - H_i) / sqrt(L - i), what its own layer's output is away from the last one's target.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from sphere_core.locate.batch import BatchWalk, LocatedBatch
from sphere_core.models.editable import EditableModel
from sphere_core.models.sites import Site

__all__ = ["LayerTargets", "layer_targets"]


@dataclass(frozen=True)
class LayerTargets:
    """Targets `[h, n]` fp32 by layer: of every edited layer (`forward`), or of the last one alone (`root` or not)."""

    by_layer: Mapping[int, torch.Tensor]
    forward: bool
    root: bool = False

    @property
    def last(self) -> torch.Tensor:
        """The target of the last edited layer's output."""
        return self.by_layer[max(self.by_layer)]

    def change(self, walk: BatchWalk, site: Site, remaining: int) -> torch.Tensor:
        """Return what the output of the site's layer must gain, `[h, n]`, with `remaining` sites left, this one
        included."""
        if self.forward:
            own = self.by_layer[site.layer]
            return own - walk.outputs(site).to(own)
        if self.root:
            return (self.last - walk.outputs(site).to(self.last)) / math.sqrt(remaining)
        return (self.last - walk.outputs().to(self.last)) / remaining

    def some(self, chosen: torch.Tensor) -> "LayerTargets":
        """Return the targets of some of the requests, given by their indices."""
        return LayerTargets(
            {layer: values[:, chosen] for layer, values in self.by_layer.items()}, self.forward, self.root
        )


def layer_targets(
    model: EditableModel,
    batch: LocatedBatch,
    sites: Sequence[Site],
    found: torch.Tensor,
    *,
    forward: bool,
    root: bool = False,
) -> LayerTargets:
    """Return the targets of the edited layers, ascending, under the weights the model holds now.

    `found` `[h, n]` is the optimised target: of the first of `sites` with `forward`, else of the last.
    """
    if not forward:
        return LayerTargets({sites[-1].layer: found}, forward=False, root=root)
    replayed = BatchWalk(model, batch, sites).replayed(found)
    by_layer = {site.layer: replayed[site.layer].to(found) for site in sites}
    # The replay rounds it to the model's dtype.
    by_layer[sites[0].layer] = found
    return LayerTargets(by_layer, forward=True)
