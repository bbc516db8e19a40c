"""Orders by the similarity of the keys themselves: which edits press on the same directions of the edited weight."""

from collections.abc import Callable, Sequence

import torch
from sklearn.cluster import KMeans

from sphere_core.datasets.records import Record
from sphere_core.foundation.errors import InputError
from sphere_core.locate.batch import BatchWalk, locate
from sphere_core.models.editable import EditableModel

__all__ = ["adjacent_cosine", "clusters_of", "dispersed", "record_keys"]

_BARE = (("{}",),)
_REQUESTS_AT_A_TIME = 256


def record_keys(
    model: EditableModel, records: Sequence[Record], layer: int, *, on_progress: Callable[[int], None] | None = None
) -> torch.Tensor:
    """Return one unit key per record, `[n, d_in]` fp32 on the CPU, of the model as it is now.

    The key is the input of the layer's site at the subject's last token of the bare prompt (Meng et al., arXiv
    2202.05262, without sampled contexts, so that it depends on model and record alone); a record of several
    edits has the mean of their unit keys. `on_progress` receives the number of records done. Raises
    InputError for a layer the model does not have and for a subject that cannot be located.
    """
    last = len(model.layers) - 1
    if not 0 <= layer <= last:
        raise InputError(
            f"layer {layer} is out of range", where="--layer", remedy=f"the model has {last + 1} layers: 0 to {last}"
        )
    (site,) = model.open_sites([layer])
    found = []
    for start in range(0, len(records), _REQUESTS_AT_A_TIME):
        part = records[start : start + _REQUESTS_AT_A_TIME]
        requests = [request for record in part for request in record.requests]
        keys = BatchWalk(model, locate(model, requests, _BARE), [site]).bare_inputs(site).T.cpu()
        sizes = [len(record.requests) for record in part]
        found += [_unit(_unit(own).mean(dim=0)) for own in torch.split(keys, sizes)]
        if on_progress is not None:
            on_progress(start + len(part))
    return torch.stack(found)


def clusters_of(keys: torch.Tensor, count: int, seed: int) -> list[list[int]]:
    """Return the places of unit keys `[n, d_in]` by cluster: k-means on the sphere's chords, seeded.

    For unit vectors the squared distance is 2 - 2 cos, so these are clusters by cosine. Clusters come in the
    order of their first member, members in the order of the keys. Raises InputError for more clusters than keys.
    """
    if count > len(keys):
        raise InputError(
            f"{count} clusters are requested, there are {len(keys)} records",
            where="--clusters",
            remedy="request fewer clusters, or more edits",
        )
    labels = KMeans(n_clusters=count, n_init=1, random_state=seed).fit_predict(keys.numpy())
    groups: dict[int, list[int]] = {}
    for place, label in enumerate(labels.tolist()):
        groups.setdefault(label, []).append(place)
    return list(groups.values())


def dispersed(keys: torch.Tensor) -> list[int]:
    """Return the places of unit keys `[n, d_in]` in an order in which similar keys are far apart.

    Kernel herding with the cosine as kernel (Chen, Welling, Smola, arXiv 1203.3472), without replacement: the t-th
    key is the one left that maximises t mean_j cos(k, k_j) - sum over chosen cos(k, k_c), so that every
    stretch of the stream is as mixed as the whole. Needs the `[n, n]` matrix of cosines (fp32: 1.7 GB for
    20,000 keys); sums are float64.
    """
    cosines = keys @ keys.T
    mean = cosines.double().mean(dim=1)
    gain = torch.zeros_like(mean)
    order = []
    for _ in range(len(keys)):
        gain += mean
        pick = int(gain.argmax())
        order.append(pick)
        gain -= cosines[pick].double()
        gain[pick] = mean[pick] = -torch.inf
    return order


def adjacent_cosine(keys: torch.Tensor, order: Sequence[int]) -> float:
    """Return the mean cosine of each unit key with the one before it, in an order of places; 0 for a single key."""
    placed = keys[list(order)].double()
    cosines = (placed[1:] * placed[:-1]).sum(dim=1)
    return float(cosines.mean()) if len(cosines) else 0.0


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    wide = vectors.double()
    lengths = wide.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    return torch.div(wide, lengths).float()
