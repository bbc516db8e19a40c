"""CounterFact and MultiCounterFact records (Meng et al., arXiv 2202.05262 and 2210.07229) as edit requests."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from sphere_core.datasets.files import read_records
from sphere_core.datasets.records import optional_text, placed, required_text, text_list, where_is
from sphere_core.requests import EditRequest, Probe

__all__ = ["counterfact_requests", "load_counterfact"]


def load_counterfact(path: Path) -> list[EditRequest]:
    """Read a CounterFact-shaped JSON file; raises InputError naming file, record and field."""
    return counterfact_requests(read_records(path), source=str(path))


def counterfact_requests(records: Iterable[Mapping[str, object]], *, source: str) -> list[EditRequest]:
    """Turn CounterFact-shaped records into edit requests, in file order.

    Needed fields: `requested_rewrite.{prompt, subject, target_new.str}`. `requested_rewrite.target_true.str`,
    `paraphrase_prompts` and `neighborhood_prompts` are used where present; without a true target there is
    nothing to contrast with, and no neighborhood probe. `relation_id` and `generation_prompts` are kept for
    orders and for free generation.
    """
    return [_request(record, *where_is(record, index, source)) for index, record in enumerate(records)]


def _request(record: Mapping[str, object], case_id: str, where: str) -> EditRequest:
    prompt = required_text(record, "requested_rewrite.prompt", where=where)
    subject = required_text(record, "requested_rewrite.subject", where=where)
    target_new = required_text(record, "requested_rewrite.target_new.str", where=where).strip()
    target_true = optional_text(record, "requested_rewrite.target_true.str", where=where)
    probes = [Probe("rewrite", prompt.replace("{}", subject), target_new, target_true)]
    for text in text_list(record, "paraphrase_prompts", where=where):
        probes.append(Probe("paraphrase", text, target_new, target_true))
    for text in text_list(record, "neighborhood_prompts", where=where):
        if target_true is not None:
            probes.append(Probe("neighborhood", text, target_true, target_new))
    relation = optional_text(record, "requested_rewrite.relation_id", where=where)
    generation = tuple(text_list(record, "generation_prompts", where=where))
    return placed(
        lambda: EditRequest(
            case_id, prompt, subject, target_new, target_true, tuple(probes), relation, generation_prompts=generation
        ),
        where=where,
    )
