"""Second moments C0 = E[k k^T] of a site's inputs over a corpus, and the null space of C0.

Symbols: k `[d]` the input of a site at one token, N tokens in all, C0 `[d, d]` = (1/N) sum k k^T, uncentred.
"""

import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from sphere_core.errors import InputError
from sphere_core.fingerprint import tensors_digest
from sphere_core.linalg import Subspace, symmetric_eigen
from sphere_core.locate.prompts import pad_right
from sphere_core.models.activations import capture_inputs
from sphere_core.models.editable import EditableModel
from sphere_core.models.sites import Site

__all__ = [
    "SecondMoments",
    "build_second_moments",
    "check_moments",
    "encode_moments",
    "null_space",
    "read_moments",
]

# Texts sorted by length inside a window, so that rows of one forward are of like length.
_WINDOW_TEXTS = 512
_FORWARD_TOKENS = 16384


@dataclass(frozen=True)
class SecondMoments:
    """C0 of each layer's site, float64 `[d_in, d_in]`, over `count` tokens; `provenance` says of what."""

    by_layer: Mapping[int, torch.Tensor]
    count: int
    provenance: Mapping[str, str]

    @property
    def digest(self) -> str:
        """Digest of the numbers: what a trajectory that uses them is identified by."""
        return tensors_digest({f"layer{layer}": moment for layer, moment in self.by_layer.items()})


def build_second_moments(
    model: EditableModel,
    layers: Sequence[int],
    texts: Iterable[str],
    *,
    max_tokens_per_text: int,
    provenance: Mapping[str, str],
    on_progress: Callable[[int], None] = lambda _: None,
) -> SecondMoments:
    """Sum k k^T at all sites in one pass over the corpus; every forward stops at the last site.

    All tokens count that are not padding, special tokens included, as in MEMIT's released statistics. Products
    are fp32 inside one forward, sums over forwards float64. `on_progress` receives the number of texts done.
    Raises InputError for an empty corpus.
    """
    sites = model.open_sites(layers)
    modules = {site.name: model.network.get_submodule(site.module_path) for site in sites}
    sums = {site.name: torch.zeros(site.d_in, site.d_in, dtype=torch.float64) for site in sites}
    count = done = 0
    for rows in _forwards(model, texts, max_tokens_per_text):
        ids, mask = pad_right(rows, fill=0, device=model.device)

        def run(ids: torch.Tensor = ids, mask: torch.Tensor = mask) -> object:
            return model.decoder(input_ids=ids, attention_mask=mask, use_cache=False)

        with torch.no_grad():
            inputs = capture_inputs(modules, run)
        for name, values in inputs.items():
            keys = values[mask.to(values.device).bool()].float()
            sums[name] += (keys.T @ keys).double().cpu()
        count, done = count + int(mask.sum()), done + len(rows)
        on_progress(done)
    if not count:
        raise InputError("the corpus holds no text", where="second moments", remedy="give at least one text")
    moments = {site.layer: sums[site.name] / count for site in sites}
    return SecondMoments(moments, count, {**provenance, "model_digest": model.base_digest, "tokens": str(count)})


def encode_moments(moments: SecondMoments) -> bytes:
    """Return second moments as safetensors bytes, provenance in the header."""
    tensors = {f"layer{layer}": moment.contiguous() for layer, moment in sorted(moments.by_layer.items())}
    # One key only: safetensors keeps several in no fixed order, and equal moments must be equal bytes.
    header = {"count": moments.count, "provenance": dict(moments.provenance)}
    return save(tensors, metadata={"moments": json.dumps(header, sort_keys=True)})


def read_moments(path: Path) -> SecondMoments:
    """Read second moments: our safetensors, or an npz with one `layer{l}` array a layer (and `count`).

    Raises InputError for a missing file, another format, or arrays that are not square.
    """
    if not path.is_file():
        raise InputError("moments file not found", where=str(path), remedy="check the path")
    if path.suffix == ".npz":
        arrays, count, provenance = _read_npz(path)
    else:
        arrays, count, provenance = _read_safetensors(path)
    by_layer = {int(name.removeprefix("layer")): tensor.double() for name, tensor in arrays.items()}
    for layer, moment in by_layer.items():
        if moment.ndim != 2 or moment.shape[0] != moment.shape[1]:
            raise InputError(f"layer{layer} has the shape {tuple(moment.shape)}: it must be square", where=str(path))
    if not by_layer:
        raise InputError("no array is called layer0, layer1, ...", where=str(path), remedy="name arrays layer{l}")
    return SecondMoments(by_layer, count, provenance)


def check_moments(moments: SecondMoments, sites: Sequence[Site], *, where: str) -> None:
    """Raise InputError unless every site has a moment of its own width, made with finite numbers."""
    for site in sites:
        moment = moments.by_layer.get(site.layer)
        if moment is None:
            have = ", ".join(str(layer) for layer in sorted(moments.by_layer))
            raise InputError(
                f"no second moment for layer {site.layer}", where=where, remedy=f"the file has layers {have}"
            )
        if moment.shape[0] != site.d_in:
            raise InputError(
                f"the second moment of layer {site.layer} is {tuple(moment.shape)}, "
                f"but {site.module_path} has {site.d_in} inputs",
                where=where,
                remedy="use the statistics of this very model",
            )
        if not bool(torch.isfinite(moment).all()):
            raise InputError(f"the second moment of layer {site.layer} is not finite", where=where)
        if not torch.allclose(moment, moment.T, rtol=1e-3, atol=1e-6 * float(moment.abs().max())):
            raise InputError(
                f"the second moment of layer {site.layer} is not symmetric",
                where=where,
                remedy="a second moment is E[k k^T]; give the statistics themselves, not another matrix",
            )


def null_space(moment: torch.Tensor, *, threshold: float | None, share: float | None) -> Subspace:
    """Return the approximate null space of C0 `[d, d]`: eigenvalues below `threshold`, or the smallest `share` of them.

    AlphaEdit (arXiv 2410.02355) takes an absolute threshold on the singular values, which depends on the
    model's scale. By symmetric eigendecomposition in float64, kept as the thinner side. Raises
    InputError where nothing, or neither rule, is given.
    """
    values, vectors = symmetric_eigen(moment)
    if threshold is not None:
        small = int((values.abs() < threshold).sum())
    elif share is not None:
        small = round(share * len(values))
    else:
        raise InputError("no rule for the null space", remedy="give nullspace_threshold or nullspace_share")
    if small == 0:
        raise InputError(
            f"no eigenvalue of C0 is below the threshold {threshold}; the smallest is {float(values.min()):.3g}",
            where="hyperparameter 'nullspace_threshold'",
            remedy="raise the threshold: with an empty null space nothing can be written",
        )
    if 2 * small <= len(values):
        return Subspace(vectors[:, :small], complement=False)
    return Subspace(vectors[:, small:], complement=True)


def _forwards(model: EditableModel, texts: Iterable[str], limit: int) -> Iterator[list[list[int]]]:
    """Yield rows of token ids, of like length, at most `_FORWARD_TOKENS` a forward."""
    window: list[list[int]] = []
    for text in texts:
        window.append(list(model.tokenizer(text, truncation=True, max_length=limit)["input_ids"]))
        if len(window) == _WINDOW_TEXTS:
            yield from _packed(window)
            window = []
    yield from _packed(window)


def _packed(window: list[list[int]]) -> Iterator[list[list[int]]]:
    rows: list[list[int]] = []
    for row in sorted((row for row in window if row), key=len):
        if rows and (len(rows) + 1) * len(row) > _FORWARD_TOKENS:
            yield rows
            rows = []
        rows.append(row)
    if rows:
        yield rows


def _read_npz(path: Path) -> tuple[dict[str, torch.Tensor], int, dict[str, str]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: torch.from_numpy(archive[name]) for name in archive.files if _is_layer(name)}
            count = int(archive["count"]) if "count" in archive.files else 0
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"not a readable npz file: {error}", where=str(path)) from error
    return arrays, count, {"imported_from": path.name}


def _read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], int, dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as archive:
            header = json.loads((archive.metadata() or {}).get("moments", "{}"))
            arrays = {name: archive.get_tensor(name) for name in archive.keys() if _is_layer(name)}  # noqa: SIM118
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise InputError(f"not a readable safetensors file: {error}", where=str(path)) from error
    return arrays, int(header.get("count", 0)), dict(header.get("provenance", {}))


def _is_layer(name: str) -> bool:
    return name.startswith("layer") and name.removeprefix("layer").isdigit()
