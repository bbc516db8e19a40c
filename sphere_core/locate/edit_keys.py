"""The key of every edit just before it is written; later edits with similar keys may disturb it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from safetensors.torch import load, save

from sphere_core.foundation.errors import InputError
from sphere_core.hyperparameters.places import Place, place_of, place_order, split_place
from sphere_core.locate.batch import BatchWalk, locate
from sphere_core.locate.templates import Contexts
from sphere_core.models.editable import EditableModel
from sphere_core.requests import EditRequest

__all__ = ["EditKeys", "read_edit_keys"]

_EDITS = "edits"


@dataclass
class EditKeys:
    """Unit keys by place, `[n, d_in]` float16, their norms `[n]` float32, and the 1-based places of the edits `[n]`.

    A unit vector fits half precision whatever the size of the activations: cosines are right to about 1e-3.
    """

    edits: list[int]
    units: dict[Place, list[torch.Tensor]]
    norms: dict[Place, list[torch.Tensor]]

    @classmethod
    def empty(cls) -> "EditKeys":
        """Return keys of no edit."""
        return cls([], {}, {})

    def note(
        self,
        model: EditableModel,
        places: Sequence[Place],
        first: int,
        requests: Sequence[EditRequest],
        contexts: Contexts,
    ) -> None:
        """Add the keys of a batch at some sites, under the weights the model holds now.

        They are MEMIT's keys (mean over context groups) of the model before the batch. An editor that writes layer by
        layer solves the later layers with keys that already see its earlier ones, which differ a little.
        """
        sites = model.open_sites(places)
        walk = BatchWalk(model, locate(model, requests, contexts), sites)
        for site in sites:
            keys = walk.keys(site).T.cpu()
            norms = torch.linalg.vector_norm(keys.double(), dim=1, keepdim=True)
            units = keys.double() / norms.clamp_min(torch.finfo(torch.float64).tiny)
            self.units.setdefault(site.place, []).append(units.half())
            self.norms.setdefault(site.place, []).append(norms[:, 0].float())
        self.edits.extend(range(first, first + len(requests)))

    def encode(self) -> bytes:
        """Return the keys as safetensors; equal keys give equal bytes."""
        tensors = {_EDITS: torch.tensor(self.edits, dtype=torch.int32)}
        for place in sorted(self.units, key=place_order):
            tensors[f"layer{place}/units"] = torch.cat(self.units[place])
            tensors[f"layer{place}/norms"] = torch.cat(self.norms[place])
        return save(tensors)

    def extend(self, other: "EditKeys") -> None:
        """Add the keys of others behind these."""
        self.edits.extend(other.edits)
        for mine, theirs in ((self.units, other.units), (self.norms, other.norms)):
            for place, parts in theirs.items():
                mine.setdefault(place, []).extend(parts)


def read_edit_keys(data: bytes, *, where: str) -> EditKeys:
    """Read keys from safetensors bytes; raises InputError if they are not."""
    tensors = load(data)
    if _EDITS not in tensors:
        raise InputError("the file holds no keys of edits", where=where, remedy="delete it: it is not of this project")
    found = EditKeys(tensors.pop(_EDITS).tolist(), {}, {})
    for name, tensor in tensors.items():
        text, _, kind = name.removeprefix("layer").partition("/")
        place = place_of(*split_place(text))
        (found.units if kind == "units" else found.norms)[place] = [tensor]
    return found
