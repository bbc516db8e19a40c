"""Second moments and null spaces as files: our safetensors with the provenance inside, and npz with `layer{l}` arrays.

A file holds C0 of a layer as `layer{l}` `[d, d]` float64 (of a mixture `[E, f, f]`, with `routed{l}` `[E]`), that of
its output gradients as `gradient{l}` `[o, o]` float64, a null space as `nullspace{l}` `[r, d]` float64: the basis of
its thinner side, transposed, so that a mapped file has the layout that eigenvectors have in memory.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.user_files import open_file, refuse_wrong_kind
from sphere_core.moments.headers import REBUILD, MomentsHeader, moments_file_errors, open_npz, read_header
from sphere_core.moments.record import SecondMoments
from sphere_core.numerics.linalg import Subspace
from sphere_core.numerics.tensor_digest import tensors_digest
from sphere_core.numerics.tensor_file import write_tensors

__all__ = ["joined", "read_moments", "write_moments"]

_LAYER = re.compile("[0-9]{1,4}")


def write_moments(moments: SecondMoments, path: Path) -> None:
    """Write second moments and null spaces as safetensors, provenance in the header; equal moments, equal bytes."""
    tensors = moments.tensors()
    header = MomentsHeader(
        count=moments.count,
        provenance=dict(moments.provenance),
        digests={name: tensors_digest({name: tensor}) for name, tensor in tensors.items()},
        complement={str(layer): space.complement for layer, space in moments.null_spaces.items()},
    )
    whole = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    write_tensors(whole, path, metadata=header.encode())


def read_moments(path: Path, *, layers: Callable[[int], bool] = lambda _: True) -> SecondMoments:
    """Read second moments: our safetensors, a folder of them, or an npz with one `layer{l}` array per layer.

    safetensors are mapped, not copied: processes of a node that read one file share its pages. `layers` says which
    layers are wanted. Raises InputError for a missing file, another format, or arrays that are not square.
    """
    if path.is_dir():
        parts = [read_moments(part, layers=layers) for part in sorted(path.glob("layer*.safetensors"))]
        return joined([part for part in parts if part.layers], where=str(path))
    if not path.is_file():
        # Says which: missing, not readable, not a file.
        open_file(path, what="moments file").close()
    refuse_wrong_kind(path, what="a file of second moments")
    arrays, header = _read_npz(path) if path.suffix == ".npz" else _read_safetensors(path)
    chosen = {layer: tensor for layer, tensor in _named(arrays, "layer").items() if layers(layer)}
    bases = {layer: tensor for layer, tensor in _named(arrays, "nullspace").items() if layers(layer)}
    routed = {layer: tensor.double() for layer, tensor in _named(arrays, "routed").items() if layers(layer)}
    slopes = {layer: tensor for layer, tensor in _named(arrays, "gradient").items() if layers(layer)}
    for layer, moment in (*chosen.items(), *slopes.items()):
        if moment.ndim != (3 if layer in routed else 2) or moment.shape[-2] != moment.shape[-1] or not len(moment):
            raise InputError(
                f"layer{layer} has the shape {tuple(moment.shape)}: it must be square", where=str(path), remedy=REBUILD
            )
    for layer, tensor in (*chosen.items(), *bases.items(), *slopes.items()):
        if not tensor.is_floating_point() or tensor.ndim not in (2, 3):
            raise InputError(
                f"the array of layer {layer} holds {str(tensor.dtype).removeprefix('torch.')} in {tensor.ndim} "
                "dimensions: a matrix of floating-point numbers is required",
                where=str(path),
                remedy=REBUILD,
            )
    with moments_file_errors(path):
        by_layer = {layer: tensor.double() for layer, tensor in chosen.items()}
        gradients = {layer: tensor.double() for layer, tensor in slopes.items()}
    if not _named(arrays, "layer") and not _named(arrays, "nullspace"):
        raise InputError("no array is called layer0, layer1, ...", where=str(path), remedy="name arrays layer{l}")
    spaces = {layer: Subspace(basis.T, complement=header.complement[str(layer)]) for layer, basis in bases.items()}
    return SecondMoments(by_layer, header.count, dict(header.provenance), spaces, gradients, routed)


def joined(parts: list[SecondMoments], *, where: str) -> SecondMoments:
    """Return the moments of several files as one; raises InputError if they are not of one model and corpus."""
    if not parts:
        raise InputError("no moments here", where=where, remedy="build some: sphere moments build MODEL --corpus ...")
    first = parts[0]
    by_layer: dict[int, torch.Tensor] = {}
    spaces: dict[int, Subspace] = {}
    gradients: dict[int, torch.Tensor] = {}
    routed: dict[int, torch.Tensor] = {}
    for part in parts:
        for key in ("model_digest", "corpus", "tokenizer_digest"):
            if part.provenance.get(key) != first.provenance.get(key):
                raise InputError(
                    f"these files do not belong together: they differ in {key} "
                    f"({_short(first.provenance.get(key))} and {_short(part.provenance.get(key))})",
                    where=where,
                    remedy="give files of one model and one corpus",
                )
        by_layer |= part.by_layer
        spaces |= part.null_spaces
        gradients |= part.gradients
        routed |= part.routed
    return SecondMoments(by_layer, first.count, first.provenance, spaces, gradients, routed)


def _short(value: object) -> str:
    return str(value) if len(str(value)) <= 60 else f"{str(value)[:57]}..."


def _read_npz(path: Path) -> tuple[dict[str, torch.Tensor], MomentsHeader]:
    with open_npz(path, what="a file of second moments") as archive:
        arrays = {name: torch.from_numpy(archive[name]) for name in archive if name.startswith("layer")}
        given = archive["count"] if "count" in archive else np.array(0)
    if given.size != 1 or given.dtype.kind not in "iuf" or not 0 <= float(given.reshape(())) < 2**63:
        raise InputError("the array count is not one number of tokens", where=str(path), remedy=REBUILD)
    return arrays, MomentsHeader(int(given.reshape(())), provenance={"imported_from": path.name})


def _read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], MomentsHeader]:
    header = read_header(path)
    with moments_file_errors(path), safe_open(path, framework="pt") as archive:
        return {name: archive.get_tensor(name) for name in header.shapes}, header


def _named(arrays: Mapping[str, torch.Tensor], stem: str) -> dict[int, torch.Tensor]:
    numbers = {name: name.removeprefix(stem) for name in arrays if name.startswith(stem)}
    return {int(number): arrays[name] for name, number in numbers.items() if _LAYER.fullmatch(number)}
