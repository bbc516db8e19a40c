"""WikiBigEdit (Thede et al., arXiv 2503.05683) as edit requests."""

import math
from collections.abc import Mapping

from sphere_core.datasets.records import (
    one_answer,
    optional_text,
    placed,
    refuse_unknown,
    required_text,
    where_is,
)
from sphere_core.datasets.subjects import template_of
from sphere_core.requests import EditRequest, Probe

__all__ = ["wikibigedit_request"]

_REWORDED = ("rephrase", "personas", "personas_formal")
_FIELDS = ("case_id", "subject", "update", "ans", *_REWORDED, "mhop", "mhop_ans", "loc", "loc_ans")
# What a record may do without.
_OPTIONAL = (*_REWORDED, "mhop", "mhop_ans", "loc", "loc_ans", "relation", "relation_id")
_OTHERS = ("tag", "relation", "object", "subject_id", "relation_id", "object_id", "ground_truth", "id", "timestep")


def wikibigedit_request(record: Mapping[str, object], index: int, source: str) -> EditRequest:
    """Turn one WikiBigEdit record into an edit request.

    The question `update` holds the `subject` once and is edited to `ans`. `rephrase` and `personas` are asked as
    paraphrases, `mhop` (for `mhop_ans`) as multi_hop, `loc` (for `loc_ans`) as neighborhood; each may be absent
    (null, NaN or an empty text, as tables write it). A number as an answer is read as its text. Raises InputError
    naming the field, also where one of a pair is there without the other.
    """
    case_id, where = where_is(record, index, source)
    refuse_unknown(record, _FIELDS, where=where, needed=("update", "subject", "ans"), others=_OTHERS)
    subject = required_text(record, "subject", where=where)
    prompt = template_of(required_text(record, "update", where=where), subject, where=where, field="update")
    target = one_answer(record, "ans", where=where)
    record = {name: value for name, value in record.items() if name not in _OPTIONAL or not _is_absent(value)}
    probes = [Probe("rewrite", prompt.replace("{}", subject), target)]
    for field in _REWORDED:
        text = optional_text(record, field, where=where)
        probes += [] if text is None else [Probe("paraphrase", text, target)]
    if record.get("mhop") is not None or record.get("mhop_ans") is not None:
        hop = required_text(record, "mhop", where=where)
        probes.append(Probe("multi_hop", hop, one_answer(record, "mhop_ans", where=where)))
    if record.get("loc") is not None or record.get("loc_ans") is not None:
        other = required_text(record, "loc", where=where)
        probes.append(Probe("neighborhood", other, one_answer(record, "loc_ans", where=where)))
    relation = optional_text(record, "relation_id", where=where) or optional_text(record, "relation", where=where)
    return placed(lambda: EditRequest(case_id, prompt, subject, target, None, tuple(probes), relation), where=where)


def _is_absent(value: object) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))
