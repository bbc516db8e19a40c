"""Long-form edits: UnKE (Deng et al., arXiv 2405.15349) and AKEW (Wu et al., arXiv 2402.18909), whose targets are
paragraphs."""

from collections.abc import Iterator, Mapping

from sphere_core.datasets.records import (
    Record,
    objects,
    placed,
    refuse_unknown,
    required_text,
    target_text,
    text_list,
    texts_of,
    where_is,
)
from sphere_core.foundation.errors import InputError
from sphere_core.requests import EditRequest, Probe

__all__ = ["akew_record", "unke_request"]

_REWORDED = ("para_question", "para_question1", "para_question2")
_UNKE_FIELDS = ("id", "question", *_REWORDED, "answer", "sub_question", "sub_answer")
_AKEW_FIELDS = ("case_id", "requested_rewrite", "paraphrase_prompts", "neighborhood_prompts")
_AKEW_OTHERS = (
    *("pararel_idx", "attribute_prompts", "generation_prompts", "questions", "answer", "answer_alias", "new_answer"),
    *("new_answer_alias", "single_hops", "new_single_hops", "orig", "loc", "loc_ans"),
)
_REWRITE = ("prompt", "subject", "target_true", "fact_new_uns", "question", "unsfact_triplets_GPT", "relation_id")
_REWRITE_OTHERS = (
    *("prompt_full", "target_new", "fact_new", "fact_true", "answer_new", "answer_true", "answer_new_alias"),
    *("answer_true_alias", "answer_GPT", "time_new", "time_true", "subject_id", "target_old", "id"),
)
_EXAMPLE = '[{"subject": "...", "prompt": "... {} ...", "target": "..."}]'


def unke_request(record: Mapping[str, object], index: int, source: str) -> EditRequest:
    """Turn one UnKE record into an edit request: `question` is edited to the whole `answer`.

    The records name no subject, since UnKE edits at the last token of the question: the question as a whole stands for
    it, and the key is read there. `para_question` is asked as a paraphrase, each of `sub_question` (for its
    `sub_answer`, a fact of the answer) as portability. Raises InputError naming the field.
    """
    case_id, where = where_is(record, index, source, field="id")
    refuse_unknown(record, _UNKE_FIELDS, where=where, needed=("question", "answer"))
    question = required_text(record, "question", where=where)
    answer = required_text(record, "answer", where=where)
    probes = [Probe("rewrite", question, answer)]
    for field in _REWORDED:
        probes += [Probe("paraphrase", text, answer) for text in texts_of(record, field, where=where)]
    parts, answers = (text_list(record, name, where=where) for name in ("sub_question", "sub_answer"))
    if len(parts) != len(answers):
        raise InputError(
            f"there are {len(parts)} entries in 'sub_question' and {len(answers)} in 'sub_answer'",
            where=f"{where}, field sub_answer",
            remedy="give one answer for each question",
        )
    probes += [Probe("portability", part, given) for part, given in zip(parts, answers, strict=True)]
    return placed(lambda: EditRequest(case_id, "{}", question, answer, None, tuple(probes)), where=where)


def akew_record(record: Mapping[str, object], index: int, source: str) -> Record:
    """Turn one AKEW record (its CounterFact, MQuAKE-CF and WikiUpdate files) into edits to the unstructured text.

    `requested_rewrite` is one edit or a list of them: `prompt` with `{}`, `subject`, and `fact_new_uns`, the paragraph
    that is the target. `question` and `paraphrase_prompts` are asked as paraphrases, the facts that were drawn from the
    paragraph (`unsfact_triplets_GPT`) as portability, `neighborhood_prompts` for the true target. For the short target
    read the same files as `counterfact` or `mquake`. Raises InputError naming the field.
    """
    case_id, where = where_is(record, index, source)
    refuse_unknown(record, _AKEW_FIELDS, where=where, needed=("requested_rewrite",), others=_AKEW_OTHERS)
    rewrites = record.get("requested_rewrite")
    if isinstance(rewrites, Mapping):
        return Record(case_id, (_akew_request(rewrites, record, case_id, f"{where}, requested_rewrite"),))
    entries = objects(record, "requested_rewrite", where=where, example='[{"prompt": "{} ...", "subject": "..."}]')
    if not entries:
        raise InputError(
            "field 'requested_rewrite' holds no edit",
            where=f"{where}, field requested_rewrite",
            remedy="give at least one edit, or take the record out",
        )
    return Record(
        case_id,
        tuple(
            _akew_request(entry, {}, f"{case_id}.{number}", f"{where}, requested_rewrite[{number - 1}]")
            for number, entry in enumerate(entries, start=1)
        ),
    )


def _akew_request(rewrite: Mapping[str, object], record: Mapping[str, object], case_id: str, where: str) -> EditRequest:
    refuse_unknown(rewrite, _REWRITE, where=where, others=_REWRITE_OTHERS, kind="field of 'requested_rewrite'")
    prompt, subject, target = (
        required_text(rewrite, name, where=where) for name in ("prompt", "subject", "fact_new_uns")
    )
    true = target_text(rewrite, "target_true", where=where)
    probes = [Probe("rewrite", prompt.replace("{}", subject), target)]
    reworded = [*texts_of(rewrite, "question", where=where), *text_list(record, "paraphrase_prompts", where=where)]
    probes += [Probe("paraphrase", text, target) for text in reworded]
    for text in text_list(record, "neighborhood_prompts", where=where):
        if true is None:
            required_text(rewrite, "target_true", where=where)
        probes.append(Probe("neighborhood", text, str(true)))
    probes += _facts(rewrite, where)
    return placed(lambda: EditRequest(case_id, prompt, subject, target, None, tuple(probes)), where=where)


def _facts(rewrite: Mapping[str, object], where: str) -> Iterator[Probe]:
    name = "unsfact_triplets_GPT"
    for number, entry in enumerate(objects(rewrite, name, where=where, example=_EXAMPLE)):
        place = f"{where}, {name}[{number}]"
        refuse_unknown(entry, ("subject", "prompt", "target"), where=place, kind="field of a triple")
        prompt, subject, target = (required_text(entry, part, where=place) for part in ("prompt", "subject", "target"))
        yield Probe("portability", prompt.replace("{}", subject), target)
