"""Statistics made by other projects: MEMIT's `*_stats/*.npz` and AlphaEdit's projector.

Neither records its model. The importer names it, and the file records that it was named, not measured.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import torch

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.fingerprint import file_digest
from sphere_core.models.sites import Site
from sphere_core.moments.headers import open_npz
from sphere_core.moments.null_space import projector_subspace
from sphere_core.moments.record import SecondMoments, check_moments
from sphere_core.numerics.linalg import Subspace

__all__ = ["import_projector", "import_statistics"]

# `transformer.h.13.mlp.c_proj_float32_mom2_100000.npz`: module, precision, statistics, perhaps a length, texts.
_NAME = re.compile(
    r"^(?P<module>.+?)_float(?:16|32|64)_(?:[a-z0-9_]+-)*mom2(?:-[a-z0-9_]+)*(?:_t[^_]+)?(?:_(?P<texts>\d+))?\.npz$"
)


def import_statistics(paths: Sequence[Path], sites: Sequence[Site], *, model: str, model_digest: str) -> SecondMoments:
    """Return the second moments of MEMIT's npz files, one per site, identified by the module in the file's name.

    They hold the raw sum of k k^T (`mom2.mom2`, fp32 as released) and the number of tokens (`mom2.count`). Raises
    InputError if a file is not one of these, names no site of this model, or has another width.
    """
    by_path = {site.module_path: site for site in sites}
    by_layer: dict[int, torch.Tensor] = {}
    counts, origins = {}, {}
    for path in paths:
        named = _NAME.match(path.name)
        site = by_path.get(named["module"]) if named else None
        if site is None:
            raise InputError(
                "the file's name names no editable module of this model",
                where=str(path),
                remedy=f"keep the released name, such as {sites[0].module_path}_float32_mom2_100000.npz",
            )
        total, counts[str(site.layer)] = _read_statistics(path)
        by_layer[site.layer] = total.double() / counts[str(site.layer)]
        origins[path.name] = file_digest(path)
    provenance = {
        "source": "imported: MEMIT's statistics; model and corpus are as the importer says",
        "model": model,
        "model_digest": model_digest,
        "imported_from": origins,
        "counts": counts,
    }
    moments = SecondMoments(by_layer, max(counts.values()), provenance)
    chosen = [site for site in sites if site.layer in by_layer]
    check_moments(moments, chosen, where=", ".join(str(path) for path in paths), model_digest=model_digest)
    return moments


def import_projector(path: Path, sites: Sequence[Site], *, model: str, model_digest: str) -> SecondMoments:
    """Return the null spaces of AlphaEdit's `null_space_project.pt`: `[layers, d, d]`, one projector per site in order.

    The file is a torch pickle; only tensors are read from it. AlphaEdit then edits in exactly this subspace, regardless
    of `nullspace_threshold`. Raises InputError if it is not such a file or holds no projectors of these sites.
    """
    try:
        projectors = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises the pickler's own errors, which share no nearer base
        raise InputError(
            f"not a file of tensors: {str(error)[:120]}",
            where=str(path),
            remedy="give AlphaEdit's null_space_project.pt, as released",
        ) from error
    if not isinstance(projectors, torch.Tensor) or projectors.ndim != 3 or len(projectors) != len(sites):
        found = tuple(projectors.shape) if isinstance(projectors, torch.Tensor) else type(projectors).__name__
        raise InputError(
            f"expected one [d, d] projector for each of {len(sites)} layers, found {found}",
            where=str(path),
            remedy="name the layers the projector was made for, in its order, with --layers",
        )
    spaces: dict[int, Subspace] = {}
    for site, projector in zip(sites, projectors, strict=True):
        spaces[site.layer] = projector_subspace(projector, where=f"{path}, layer {site.layer}")
    provenance = {
        "source": "imported: AlphaEdit's projector; model and layers are as the importer says",
        "model": model,
        "model_digest": model_digest,
        "imported_from": {path.name: file_digest(path)},
    }
    moments = SecondMoments({}, 0, provenance, spaces)
    check_moments(moments, sites, where=str(path), model_digest=model_digest)
    return moments


def _read_statistics(path: Path) -> tuple[torch.Tensor, int]:
    held = "they hold the arrays mom2.mom2 and mom2.count"
    with open_npz(path, what="MEMIT's file of statistics", remedy=held) as archive:
        total, count = torch.from_numpy(archive["mom2.mom2"]), int(archive["mom2.count"])
    if count <= 0:
        raise InputError(f"the number of tokens is {count}", where=str(path), remedy="fetch the file again")
    if total.ndim != 2 or total.shape[0] != total.shape[1] or not total.is_floating_point():
        raise InputError(
            f"mom2.mom2 holds {str(total.dtype).removeprefix('torch.')} of the shape {tuple(total.shape)}: a square "
            "matrix of floating-point numbers is required",
            where=str(path),
            remedy="fetch the file again",
        )
    return total, count
