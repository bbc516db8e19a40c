"""Facts in a table: a row of several tensors per edit request, added, replaced and deleted by what the request asks."""

from collections.abc import Mapping, Sequence

import torch

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.fingerprint import canonical_json
from sphere_core.models.attachments import Attachment, stable_number
from sphere_core.requests import EditRequest

__all__ = ["SHARED", "fact_names", "rows_left", "with_facts", "without_facts"]

# How names begin of tensors that have no row per request: they are left as they are.
SHARED = "shared/"


def with_facts(
    before: Attachment | None, added: Mapping[str, torch.Tensor], requests: Sequence[EditRequest]
) -> dict[str, torch.Tensor]:
    """Return the tensors of a table with a row of `added` `[n, ...]` per request behind those that it has.

    A request that supersedes an earlier case, or has the prompt and subject of an earlier one, takes its place; of two
    in one batch the later holds. `facts` and `cases` `[n]` int64 name the rows. Everything is on the device of `added`.
    Tensors without rows, whose names begin with `SHARED`, are not among those returned.
    """
    device = next(iter(added.values())).device
    named = {**added, **fact_names(requests, device)}
    kept = {} if before is None else rows_left(before.tensors, requests)
    whole = {name: torch.cat([kept[name].to(device), new]) if kept else new for name, new in named.items()}
    latest = {fact: place for place, fact in enumerate(whole["facts"].tolist())}
    places = torch.tensor(sorted(latest.values()), device=device)
    return {name: tensor[places].contiguous() for name, tensor in whole.items()}


def fact_names(requests: Sequence[EditRequest], device: torch.device) -> dict[str, torch.Tensor]:
    """Return `facts` and `cases` `[n]` of a table's rows for these requests."""
    return {
        "facts": torch.tensor([_fact(request) for request in requests], device=device),
        "cases": torch.tensor([stable_number(request.case_id) for request in requests], device=device),
    }


def without_facts(attachment: Attachment, requests: Sequence[EditRequest]) -> Attachment | None:
    """Return a table without some of the facts it was given; None if it is then empty.

    Raises InputError for an attachment of another kind, and for a request that is not in it.
    """
    if "facts" not in attachment.tensors:
        raise InputError(f"a {attachment.kind} attachment does not hold facts", where="without_facts")
    known = set(attachment.tensors["facts"].tolist())
    for request in requests:
        if _fact(request) not in known:
            raise InputError("the table has no such fact", where=f"case {request.case_id}", remedy="leave it out")
    kept = rows_left(attachment.tensors, requests)
    shared = {name: tensor for name, tensor in attachment.tensors.items() if name.startswith(SHARED)}
    return Attachment(attachment.kind, {**shared, **kept}, attachment.scalars) if len(kept["facts"]) else None


def rows_left(tensors: Mapping[str, torch.Tensor], requests: Sequence[EditRequest]) -> dict[str, torch.Tensor]:
    """Return the rows of a table that are none of these requests' facts, and that none of them supersedes."""
    facts = [_fact(request) for request in requests]
    cases = [stable_number(request.supersedes) for request in requests if request.supersedes is not None]
    gone = torch.zeros_like(tensors["facts"], dtype=torch.bool)
    for name, numbers in (("facts", facts), ("cases", cases)):
        known = tensors[name]
        gone |= torch.isin(known, torch.tensor(numbers, dtype=torch.long, device=known.device))
    return {name: tensor[~gone] for name, tensor in tensors.items() if not name.startswith(SHARED)}


def _fact(request: EditRequest) -> int:
    return stable_number(canonical_json([request.prompt, request.subject]))
