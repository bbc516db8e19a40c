"""Streams that write a fact in several wordings: what is said to keep edits when the model is fine-tuned afterwards."""

from collections.abc import Sequence
from dataclasses import replace

from sphere_core.foundation.errors import InputError
from sphere_core.requests import EditRequest, Probe

__all__ = ["with_paraphrases"]


def with_paraphrases(requests: Sequence[EditRequest], count: int) -> list[EditRequest]:
    """Return the requests, each with `count` edits directly behind it that write the same fact in other wordings.

    The wordings are the prompts of its first paraphrase probes that hold its subject once. They are no probes any more,
    and the edits made of them have none: every number is about what was not written. Raises InputError for a request
    with fewer such wordings (arXiv 2507.14198).
    """
    return [wording for request in requests for wording in _wordings(request, count)]


def _wordings(request: EditRequest, count: int) -> list[EditRequest]:
    usable = [place for place, probe in enumerate(request.probes) if _rewords(probe, request)]
    if len(usable) < count:
        raise InputError(
            f"{count} wordings are requested and {len(usable)} of its paraphrases hold its subject once",
            where=f"case {request.case_id}, key paraphrases",
            remedy="lower paraphrases, or give the records more paraphrase prompts",
        )
    taken = usable[:count]
    left = tuple(probe for place, probe in enumerate(request.probes) if place not in taken)
    reworded = [
        replace(
            request,
            case_id=f"{request.case_id}/p{number}",
            prompt=request.probes[place].prompt.replace(request.subject, "{}"),
            probes=(),
            generation_prompts=(),
            reference_texts=(),
        )
        for number, place in enumerate(taken, 1)
    ]
    return [replace(request, probes=left), *reworded]


def _rewords(probe: Probe, request: EditRequest) -> bool:
    return (
        probe.role == "paraphrase"
        and probe.target == request.target_new
        and probe.prompt.count(request.subject) == 1
        and "{}" not in probe.prompt
    )
