"""Second moments in memory, and the checks before they are used."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from sphere_core.foundation.errors import InputError
from sphere_core.models.sites import Site
from sphere_core.moments.file_digests import FileDigests
from sphere_core.numerics.linalg import Subspace
from sphere_core.numerics.tensor_digest import tensors_digest

__all__ = ["GRADIENTS_REMEDY", "SecondMoments", "check_moments", "require_second_moment"]

# Sums in half precision agree this far, relative to the largest entry.
_ROUNDING = 1e-3
_MOST_FACTORED = 2048
GRADIENTS_REMEDY = "build them with a backward pass: sphere moments build MODEL --gradients --corpus ... --tokens ..."


@dataclass(frozen=True)
class SecondMoments:
    """C0 of each layer's site, float64 `[d_in, d_in]`, over `count` tokens, with its provenance.

    `null_spaces` are null spaces of C0 that were computed earlier, or imported instead of C0. `gradients` are S = E[g
    g^T] of the output gradients, float64 `[d_out, d_out]`, over the same tokens, where the pass had a backward.

    Of a mixture, C0 is one moment for each expert, `[E, f, f]`, over the tokens that the router sent to it, whatever
    the router's weight was; `routed` `[E]` float64 are their numbers, and an expert without a token has zeros.

    `files` are the digests of the files they were read from, where a trajectory is to be named by them.
    """

    by_layer: Mapping[int, torch.Tensor]
    count: int
    provenance: Mapping[str, Any]
    null_spaces: Mapping[int, Subspace] = field(default_factory=dict)
    gradients: Mapping[int, torch.Tensor] = field(default_factory=dict)
    routed: Mapping[int, torch.Tensor] = field(default_factory=dict)
    files: FileDigests | None = None

    @property
    def digest(self) -> str:
        """Digest of the numbers of C0."""
        return tensors_digest({f"layer{layer}": moment for layer, moment in self.by_layer.items()})

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return every array under its name in a file: `layer{l}` C0, `gradient{l}` S, `nullspace{l}` a basis
        transposed, `routed{l}` the tokens of each expert."""
        named = {f"layer{layer}": moment.contiguous() for layer, moment in sorted(self.by_layer.items())}
        named |= {f"gradient{layer}": moment.contiguous() for layer, moment in sorted(self.gradients.items())}
        named |= {f"routed{layer}": tokens.contiguous() for layer, tokens in sorted(self.routed.items())}
        spaces = sorted(self.null_spaces.items())
        return named | {f"nullspace{layer}": space.basis.T.contiguous() for layer, space in spaces}

    @property
    def layers(self) -> list[int]:
        """The layers that have C0 or a null space."""
        return sorted({*self.by_layer, *self.null_spaces})


def check_moments(
    moments: SecondMoments, sites: Sequence[Site], *, where: str, model_digest: str | None, gradients: bool = False
) -> None:
    """Raise InputError unless these are finite second moments of exactly these sites, with those of output gradients
    where `gradients` says so.

    Every site requires a moment (or a null space instead) of its own width, symmetric and finite. If the file records
    its model, that must be the model of `model_digest` (its config, weights and tokenizer).
    """
    made_of = moments.provenance.get("model_digest")
    if made_of is not None and model_digest is not None and made_of != model_digest:
        raise InputError(
            f"these are second moments of another model or tokenizer: the file's model digest is {made_of[:16]}, "
            f"this model's is {model_digest[:16]}",
            where=where,
            remedy="build them for this model: sphere moments build MODEL --corpus ... --tokens ...",
        )
    for site in sites:
        moment, space = moments.by_layer.get(site.layer), moments.null_spaces.get(site.layer)
        if moment is None and space is None:
            have = ", ".join(str(layer) for layer in moments.layers)
            raise InputError(
                f"no second moment for layer {site.layer}", where=where, remedy=f"the file has layers {have}"
            )
        if site.experts:
            _require_expert_moments(moments, site, where=where)
            continue
        for found in (moment, None if space is None else space.basis):
            if found is not None and found.shape[0] != site.d_in:
                raise InputError(
                    f"the second moment of layer {site.layer} is {tuple(found.shape)}, "
                    f"but {site.module_path} has {site.d_in} inputs",
                    where=where,
                    remedy="use the statistics of this very model",
                )
        # A null space was computed from a moment that was checked.
        if moment is not None and space is None:
            require_second_moment(moment, what=f"the second moment of layer {site.layer}", where=where)
        if gradients:
            _require_gradients(moments, site, where=where)


def _require_expert_moments(moments: SecondMoments, site: Site, *, where: str) -> None:
    moment, tokens = moments.by_layer.get(site.layer), moments.routed.get(site.layer)
    width = site.d_in // site.experts
    if moment is None or tokens is None or moment.shape != (site.experts, width, width):
        shape = "missing" if moment is None else str(tuple(moment.shape))
        raise InputError(
            f"the second moments of layer {site.layer} are {shape}, but {site.module_path} has {site.experts} experts "
            f"of {width} inputs",
            where=where,
            remedy="build them for this model: sphere moments build MODEL --corpus ... --tokens ...",
        )
    for expert in tokens.nonzero().flatten().tolist():
        what = f"the second moment of expert {expert} of layer {site.layer}"
        require_second_moment(moment[expert], what=what, where=where)


def _require_gradients(moments: SecondMoments, site: Site, *, where: str) -> None:
    found, what = moments.gradients.get(site.layer), f"the second moment of output gradients of layer {site.layer}"
    if found is None or found.shape[0] != site.d_out:
        shape = "is missing" if found is None else f"is {tuple(found.shape)}, the site has {site.d_out} outputs"
        raise InputError(f"{what} {shape}", where=where, remedy=GRADIENTS_REMEDY)
    require_second_moment(found, what=what, where=where)


def require_second_moment(moment: torch.Tensor, *, what: str, where: str) -> None:
    """Raise InputError if a matrix is not finite, symmetric and positive semidefinite, up to the rounding of its sums.

    Whether an eigenvalue is negative is tested up to `_MOST_FACTORED` rows, since it takes their third power; the
    diagonal and every pair of rows are tested for all.
    """
    fault = next(_faults(moment), None)
    if fault is not None:
        raise InputError(
            f"{what} {fault}",
            where=where,
            remedy="a second moment is E[k k^T]; give the statistics themselves, not another matrix, or build them: "
            "sphere moments build MODEL --corpus ... --tokens ...",
        )


def _faults(moment: torch.Tensor) -> Iterator[str]:
    if not bool(torch.isfinite(moment).all()):
        yield "is not finite"
        return
    diagonal, largest = moment.diagonal(), float(moment.abs().max())
    if largest == 0:
        yield "is zero everywhere"
    if not torch.allclose(moment, moment.T, rtol=1e-3, atol=1e-6 * largest):
        yield "is not symmetric"
    if float(diagonal.min()) < -_ROUNDING * largest:
        yield f"has a negative number on its diagonal, {float(diagonal.min()):.3g}"
    # |E[a b]| is at most the root of E[a a] E[b b].
    bound = torch.outer(root := diagonal.clamp(min=0).sqrt(), root)
    if bool((moment.abs() > bound * (1 + _ROUNDING) + _ROUNDING * largest).any()):
        yield "is not a second moment: an entry is larger than those of its row and column on the diagonal allow"
    if len(moment) <= _MOST_FACTORED:
        lifted = moment.double() + torch.eye(len(moment), dtype=torch.float64, device=moment.device) * (
            _ROUNDING * largest
        )
        if int(torch.linalg.cholesky_ex(lifted).info):
            yield "is not positive semidefinite: an eigenvalue is negative"
