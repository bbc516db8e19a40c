"""MQuAKE (Zhong et al., arXiv 2305.14795) and MQuAKE-Remastered as edit requests with multi-hop questions."""

from collections.abc import Iterable, Mapping

from sphere_core.datasets.records import Record, optional_text, placed, required_text, text_list, where_is
from sphere_core.foundation.errors import InputError
from sphere_core.requests import EditRequest, Probe

__all__ = ["mquake_records"]


def mquake_records(records: Iterable[Mapping[str, object]], *, source: str) -> list[Record]:
    """Turn MQuAKE records into records of edit requests, one request an entry of `requested_rewrite`.

    Needed fields: `requested_rewrite` (a list, each with `prompt`, `subject` and `target_new.str`), `questions`
    and `new_answer`. Used where present: `target_true.str`, `relation_id` and `question` of an entry (the same
    fact asked as a question: a paraphrase), `answer`, `new_answer_alias`. The flat names of the Remastered
    files (`target_new_str`, `target_true_str`) are read too.

    The multi-hop questions are asked with the record's last edit, since they need all of them; every question and
    every alias of the new answer is a probe, and all of a record form one group (the paper counts a case as
    right if any of its questions is). A request is called CASE.1, CASE.2 ... The single hops that no edit touches
    are not asked: they are what the model must know beforehand, neither an edit nor a consequence of one.
    """
    return [_record(record, *where_is(record, index, source)) for index, record in enumerate(records)]


def _record(record: Mapping[str, object], case_id: str, where: str) -> Record:
    rewrites = record.get("requested_rewrite")
    if not isinstance(rewrites, list) or not rewrites or not all(isinstance(entry, Mapping) for entry in rewrites):
        raise InputError(
            "field 'requested_rewrite' must be a list of edits",
            where=where,
            remedy="this is the schema of MQuAKE; a record with a single edit as an object is CounterFact's",
        )
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
    answer = required_text(record, "new_answer", where=where).strip()
    given = text_list(record, "new_answer_alias", where=where, blanks=True)
    aliases = [alias.strip() for alias in given if alias.strip()]
    before = optional_text(record, "answer", where=where)
    contrast = None if before in (answer, *aliases) else before
    for question in questions:
        for target in dict.fromkeys((answer, *aliases)):
            yield Probe("multi_hop", question, target, contrast, group=case_id)


def _request(entry: Mapping[str, object], case_id: str, where: str, hops: tuple[Probe, ...]) -> EditRequest:
    prompt = required_text(entry, "prompt", where=where)
    subject = required_text(entry, "subject", where=where)
    target_new = required_text(entry, _either(entry, "target_new"), where=where).strip()
    target_true = optional_text(entry, _either(entry, "target_true"), where=where)
    probes = [Probe("rewrite", prompt.replace("{}", subject), target_new, target_true)]
    question = optional_text(entry, "question", where=where)
    if question is not None:
        probes.append(Probe("paraphrase", question, target_new, target_true))
    relation = optional_text(entry, "relation_id", where=where)
    return placed(
        lambda: EditRequest(case_id, prompt, subject, target_new, target_true, (*probes, *hops), relation),
        where=where,
    )


def _either(entry: Mapping[str, object], name: str) -> str:
    """Return the path of a target's text: `NAME_str` in the Remastered files, `NAME.str` in the original ones."""
    return f"{name}_str" if entry.get(f"{name}_str") is not None else f"{name}.str"
