"""MQuAKE (Zhong et al., arXiv 2305.14795) and MQuAKE-Remastered as edit requests with multi-hop questions."""

from collections.abc import Iterable, Mapping

from sphere_core.datasets.records import (
    Record,
    either_name,
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

__all__ = ["mquake_record"]

_FIELDS = ("case_id", "requested_rewrite", "questions", "answer", "new_answer", "new_answer_alias")
_TARGETS = ("target_new", "target_true", "target_new_str", "target_true_str")
_REWRITE = ("prompt", "subject", *_TARGETS, "relation_id", "question")
# What published files hold beside: MQuAKE itself, MQuAKE-Remastered, and AKEW.
_OTHERS = ("answer_alias", "answer_extended", "single_hops", "new_single_hops", "orig", "split", "loc", "loc_ans")
_REWRITE_OTHERS = (
    *("target_new_id", "target_true_id", "prompt_full", "fact_new", "fact_true", "fact_new_uns", "answer_GPT"),
    *("answer_new", "answer_true", "answer_new_alias", "answer_true_alias", "unsfact_triplets_GPT"),
)


def mquake_record(record: Mapping[str, object], index: int, source: str) -> Record:
    """Turn one MQuAKE record into edit requests, one per entry of `requested_rewrite`.

    Needed fields: `requested_rewrite` (a list, each with `prompt`, `subject` and `target_new.str`), `questions`
    and `new_answer`. Used where present: `target_true.str`, `relation_id` and `question` of an entry (the same
    fact asked as a question: a paraphrase), `answer`, `new_answer_alias`. The flat names of the Remastered
    files (`target_new_str`, `target_true_str`) are read too.

    The multi-hop questions are asked with the record's last edit, since they need all of them; every question and
    every alias of the new answer is a probe, and all of a record form one group (the paper counts a case as
    right if any of its questions is). A request is called CASE.1, CASE.2 ... The single hops that no edit touches
    are not asked: they are what the model must know beforehand, neither an edit nor a consequence of one.
    """
    case_id, where = where_is(record, index, source)
    rewrites = record.get("requested_rewrite")
    if not isinstance(rewrites, list) or not rewrites or not all(isinstance(entry, Mapping) for entry in rewrites):
        raise InputError(
            "field 'requested_rewrite' must be a list of edits",
            where=where,
            remedy="this is the schema of MQuAKE; a record with a single edit as an object is CounterFact's",
        )
    refuse_unknown(record, _FIELDS, where=where, others=_OTHERS)
    hops = tuple(_multi_hop(record, case_id, where))
    last = len(rewrites)
    requests = tuple(
        _request(entry, f"{case_id}.{number}", f"{where}, requested_rewrite[{number - 1}]", hops * (number == last))
        for number, entry in enumerate(rewrites, start=1)
    )
    return Record(case_id, requests)


def _multi_hop(record: Mapping[str, object], case_id: str, where: str) -> Iterable[Probe]:
    questions = text_list(record, "questions", where=where)
    if not questions:
        raise InputError("field 'questions' holds no question", where=where, remedy="give the multi-hop questions")
    answer = required_text(record, "new_answer", where=where)
    aliases = text_list(record, "new_answer_alias", where=where, blanks=True)
    before = optional_text(record, "answer", where=where)
    contrast = None if before in (answer, *aliases) else before
    for question in questions:
        for target in dict.fromkeys((answer, *aliases)):
            yield Probe("multi_hop", question, target, contrast, group=case_id)


def _request(entry: Mapping[str, object], case_id: str, where: str, hops: tuple[Probe, ...]) -> EditRequest:
    refuse_unknown(entry, _REWRITE, where=where, others=_REWRITE_OTHERS, kind="field of 'requested_rewrite'")
    prompt = required_text(entry, "prompt", where=where)
    subject = required_text(entry, "subject", where=where)
    target_new = _target(entry, "target_new", where)
    if target_new is None:
        target_new = required_text(entry, "target_new.str", where=where)
    target_true = _target(entry, "target_true", where)
    probes = [Probe("rewrite", prompt.replace("{}", subject), target_new, target_true)]
    question = optional_text(entry, "question", where=where)
    if question is not None:
        probes.append(Probe("paraphrase", question, target_new, target_true))
    relation = optional_text(entry, "relation_id", where=where)
    return placed(
        lambda: EditRequest(case_id, prompt, subject, target_new, target_true, (*probes, *hops), relation),
        where=where,
    )


def _target(entry: Mapping[str, object], name: str, where: str) -> str | None:
    """Return a target: `NAME_str` in the Remastered files, `NAME` in the original ones."""
    flat, nested = (target_text(entry, field, where=where) for field in (f"{name}_str", name))
    either_name({name: nested, f"{name}_str": flat}, (name, f"{name}_str"), where=where)
    return nested if flat is None else flat
