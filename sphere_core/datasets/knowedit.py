"""KnowEdit (Zhang et al., arXiv 2401.01286): wiki_recent, wiki_counterfact, WikiBio and its zsRE, as edit requests."""

from collections.abc import Iterable, Iterator, Mapping

from sphere_core.datasets.records import (
    IncompleteRecord,
    answer_list,
    either_name,
    objects,
    one_answer,
    placed,
    refuse_unknown,
    required_text,
    texts_of,
    where_is,
)
from sphere_core.datasets.subjects import template_of
from sphere_core.foundation.errors import InputError
from sphere_core.requests import EditRequest, Probe, Role

__all__ = ["knowedit_request"]

# The names of most files, and WikiBio's for the same things.
_PROMPT, _SUBJECT, _TARGET = ("prompt", "text"), ("subject", "concept"), ("target_new", "labels")
_REPHRASE = ("rephrase_prompt", "rephrase")
_FIELDS = (*_PROMPT, *_SUBJECT, *_TARGET, *_REPHRASE, "case_id", "ground_truth", "portability", "locality")
_OTHERS = ("cond", "pred", "alt", "id")
# Which lists of questions a record holds, and the role they are asked in.
_ASKED: dict[str, tuple[Role, tuple[str, ...]]] = {
    "portability": ("portability", ("Subject_Aliasing", "Reasoning", "Logical_Generalization")),
    "locality": ("neighborhood", ("Relation_Specificity", "Forgetfulness")),
}
_WIKIBIO = "This is a Wikipedia passage about "
_EXAMPLE = '[{"prompt": "...", "ground_truth": "..."}]'


def knowedit_request(record: Mapping[str, object], index: int, source: str) -> EditRequest:
    """Turn one KnowEdit record into an edit request.

    The prompt (`prompt`, or WikiBio's `text`) holds the subject (`subject` or `concept`) once; the target is
    `target_new` or `labels`, the true one the first of `ground_truth`, where there is one. `rephrase_prompt` is asked
    as a paraphrase, each question of `portability` and `locality` as portability and neighborhood; of the answers of
    one question any counts. Raises InputError naming the field; IncompleteRecord where there is no target.
    """
    case_id, where = where_is(record, index, source)
    refuse_unknown(record, _FIELDS, where=where, others=_OTHERS)
    subject = required_text(record, either_name(record, _SUBJECT, where=where), where=where)
    name = either_name(record, _TARGET, where=where)
    if record.get(name) == "":
        raise IncompleteRecord(
            f"field '{name}' is empty",
            where=f"{where}, field {name}",
            remedy="write the target there, or leave such records out: incomplete: skip",
        )
    target = one_answer(record, name, where=where)
    true = None if record.get("ground_truth") is None else answer_list(record, "ground_truth", where=where)[0]
    prompt = _template(record, subject, where)
    probes = [Probe("rewrite", prompt.replace("{}", subject), target, true)]
    for field in _REPHRASE:
        probes += [Probe("paraphrase", text, target, true) for text in texts_of(record, field, where=where)]
    for field in _ASKED:
        probes += _questions(record, field, where)
    return placed(lambda: EditRequest(case_id, prompt, subject, target, true, tuple(probes)), where=where)


def _template(record: Mapping[str, object], subject: str, where: str) -> str:
    field = either_name(record, _PROMPT, where=where)
    prompt = required_text(record, field, where=where)
    # WikiBio names its concept in the first sentence, and then mostly in another spelling, or again.
    if prompt.startswith(_WIKIBIO + subject):
        return _WIKIBIO + "{}" + prompt[len(_WIKIBIO) + len(subject) :]
    return template_of(prompt, subject, where=where, field=field)


def _questions(record: Mapping[str, object], field: str, where: str) -> Iterator[Probe]:
    held = record.get(field)
    if held is None:
        return
    role, names = _ASKED[field]
    if not isinstance(held, Mapping):
        raise InputError(
            f"field '{field}' must be an object",
            where=f"{where}, field {field}",
            remedy=f'for example {{"{names[0]}": {_EXAMPLE}}}',
        )
    refuse_unknown(held, names, where=f"{where}, {field}", kind=f"field of '{field}'")
    for name in names:
        for number, entry in enumerate(objects(held, name, where=f"{where}, {field}", example=_EXAMPLE)):
            place = f"{where}, {field}.{name}[{number}]"
            refuse_unknown(entry, ("prompt", "ground_truth"), where=place, kind="field of a question")
            prompts = texts_of(entry, "prompt", where=place) or [required_text(entry, "prompt", where=place)]
            yield from one_of(
                role,
                prompts,
                answer_list(entry, "ground_truth", where=place),
                group=f"{name}[{number}]",
            )


def one_of(role: Role, prompts: Iterable[str], answers: list[str], *, group: str) -> Iterator[Probe]:
    """Yield the probes of one question: where it has several wordings or answers they form a group, any of which
    counts."""
    asked = [(prompt, answer) for prompt in prompts for answer in answers]
    for prompt, answer in asked:
        yield Probe(role, prompt, answer, group=group if len(asked) > 1 else None)
