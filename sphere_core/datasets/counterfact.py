"""CounterFact and MultiCounterFact records (Meng et al., arXiv 2202.05262 and 2210.07229) as edit requests."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from sphere_core.datasets.files import read_records
from sphere_core.datasets.new_questions import new_questions
from sphere_core.datasets.records import (
    optional_text,
    placed,
    refuse_unknown,
    required_text,
    target_text,
    text_list,
    where_is,
)
from sphere_core.foundation.errors import InputError
from sphere_core.requests import EditRequest, Probe

__all__ = ["counterfact_plus_request", "counterfact_request", "counterfact_requests", "load_counterfact"]

_FIELDS = ("case_id", "requested_rewrite", "paraphrase_prompts", "neighborhood_prompts", "generation_prompts")
_REWRITE = ("prompt", "subject", "target_new", "target_true", "relation_id")
# What published files hold beside: CounterFact itself, and its extensions (CounterFact+, EasyEdit's locality and
# portability files, AKEW), which other readers make use of.
_OTHERS = ("pararel_idx", "attribute_prompts", "orig", "unrelated_relation", "portability")
_REWRITE_OTHERS = ("prompt_full", "id", "question", "fact_new", "fact_true", "fact_new_uns", "unsfact_triplets_GPT")
_PLUS = "distracting_neighborhood_prompts"


def load_counterfact(path: Path) -> list[EditRequest]:
    """Read a CounterFact-shaped JSON file; raises InputError naming file, record and field."""
    return counterfact_requests(read_records(path), source=str(path))


def counterfact_requests(records: Iterable[Mapping[str, object]], *, source: str) -> list[EditRequest]:
    """Turn CounterFact-shaped records into edit requests, in file order."""
    return [counterfact_request(record, index, source) for index, record in enumerate(records)]


def counterfact_request(record: Mapping[str, object], index: int, source: str) -> EditRequest:
    """Turn one CounterFact-shaped record into an edit request.

    Needed fields: `requested_rewrite.{prompt, subject, target_new}`. `requested_rewrite.target_true`,
    `paraphrase_prompts` and `neighborhood_prompts` are used where present; without a true target there is nothing to
    contrast with, and neighborhood prompts are refused. `relation_id` and `generation_prompts` are kept for orders
    and for free generation. EasyEdit's `portability` is asked; its `unrelated_relation` is not. A target is
    `{"str": ...}`, a text or a list of one text. Blanks around texts are stripped; an unknown field is refused with
    the nearest known name. Raises InputError naming source, record, field.
    """
    return _request(record, *where_is(record, index, source))


def counterfact_plus_request(record: Mapping[str, object], index: int, source: str) -> EditRequest:
    """Turn one record of CounterFact+ (Hoelscher-Obermaier et al., arXiv 2305.17553) into an edit request.

    It is CounterFact's with `distracting_neighborhood_prompts`: neighborhood prompts behind the edited fact as a
    prefix. These are asked in place of the plain ones, in the same role and for the same true target. `portability`
    is not asked.
    """
    case_id, where = where_is(record, index, source)
    refuse_unknown(record, (*_FIELDS, _PLUS), where=where, needed=("requested_rewrite",), others=_OTHERS)
    if not text_list(record, _PLUS, where=where):
        raise InputError(
            f"field '{_PLUS}' is missing or empty",
            where=where,
            remedy="this is the schema of CounterFact+; without the field it is 'counterfact'",
        )
    plain = {name: value for name, value in record.items() if name not in (_PLUS, "portability")}
    return _request({**plain, "neighborhood_prompts": record[_PLUS]}, case_id, where)


def _request(record: Mapping[str, object], case_id: str, where: str) -> EditRequest:
    refuse_unknown(record, _FIELDS, where=where, needed=("requested_rewrite",), others=_OTHERS)
    rewrite = record["requested_rewrite"]
    if isinstance(rewrite, Mapping):
        inside = f"{where}, requested_rewrite"
        refuse_unknown(rewrite, _REWRITE, where=inside, others=_REWRITE_OTHERS, kind="field of 'requested_rewrite'")
    prompt = required_text(record, "requested_rewrite.prompt", where=where)
    subject = required_text(record, "requested_rewrite.subject", where=where)
    assert isinstance(rewrite, Mapping)  # or else its prompt would not have been found
    target_new = target_text(rewrite, "target_new", where=where, prefix="requested_rewrite.")
    if target_new is None:
        required_text(record, "requested_rewrite.target_new.str", where=where)
    target_true = target_text(rewrite, "target_true", where=where, prefix="requested_rewrite.")
    neighborhood = text_list(record, "neighborhood_prompts", where=where)
    if neighborhood and target_true is None:
        raise InputError(
            "neighborhood prompts require a true target, and the record has none",
            where=f"{where}, field requested_rewrite.target_true",
            remedy="give 'target_true', or take the neighborhood prompts out",
        )
    target = str(target_new)
    probes = [Probe("rewrite", prompt.replace("{}", subject), target, target_true)]
    probes += [
        Probe("paraphrase", text, target, target_true) for text in text_list(record, "paraphrase_prompts", where=where)
    ]
    probes += [Probe("neighborhood", text, str(target_true), target) for text in neighborhood]
    probes += new_questions(record, where=where)
    relation = optional_text(record, "requested_rewrite.relation_id", where=where)
    generation = tuple(text_list(record, "generation_prompts", where=where))
    return placed(
        lambda: EditRequest(
            case_id, prompt, subject, target, target_true, tuple(probes), relation, generation_prompts=generation
        ),
        where=where,
    )
