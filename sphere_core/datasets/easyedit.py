"""EasyEdit's flat records (Wang et al., arXiv 2308.07269): the arguments of its editor, one record per edit."""

from collections.abc import Iterator, Mapping

from sphere_core.datasets.knowedit import one_of
from sphere_core.datasets.new_questions import NEW_QUESTION, new_questions
from sphere_core.datasets.records import (
    answer_list,
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

__all__ = ["easyedit_request"]

_PAIRS: tuple[tuple[Role, str, str], ...] = (
    ("neighborhood", "locality_prompt", "locality_ground_truth"),
    ("portability", "portability_prompt", "portability_ground_truth"),
)
_NAMED: tuple[tuple[Role, str], ...] = (("neighborhood", "locality"), ("portability", "portability"))
# `ood_rephrase` is its name in WISE's temporal file.
_REPHRASE = ("rephrase_prompt", "rephrase_prompts", "ood_rephrase")
_FIELDS = (
    *("case_id", "prompt", "subject", "target_new", "ground_truth", *_REPHRASE),
    *(name for _, *names in _PAIRS for name in names),
    *(name for _, name in _NAMED),
)
_OTHERS = ("cond", "pred", "id")
# What the editor takes for a true answer that is not known.
_NO_ANSWER = "<|endoftext|>"


def easyedit_request(record: Mapping[str, object], index: int, source: str) -> EditRequest:
    """Turn one flat record into an edit request.

    `prompt` holds the `subject` once and is edited to `target_new`, from the first `ground_truth` where that is known.
    `rephrase_prompt` is asked as a paraphrase, `locality_prompt` for `locality_ground_truth` as neighborhood,
    `portability_prompt` for `portability_ground_truth` as portability. `locality` and `portability` may also be objects
    `{NAME: {"prompt": ..., "ground_truth": ...}}`, as in its `locality_inputs`, and `portability` the
    `{"New Question": ..., "New Answer": ...}` of its files. Raises InputError naming the field.
    """
    case_id, where = where_is(record, index, source)
    refuse_unknown(record, _FIELDS, where=where, needed=("prompt", "subject", "target_new"), others=_OTHERS)
    subject = required_text(record, "subject", where=where)
    prompt = template_of(required_text(record, "prompt", where=where), subject, where=where)
    target = one_answer(record, "target_new", where=where)
    true = None
    if record.get("ground_truth") not in (None, _NO_ANSWER, [_NO_ANSWER]):
        true = answer_list(record, "ground_truth", where=where)[0]
    probes = [Probe("rewrite", prompt.replace("{}", subject), target, true)]
    for name in _REPHRASE:
        probes += [Probe("paraphrase", text, target, true) for text in texts_of(record, name, where=where)]
    for role, question, answer in _PAIRS:
        if record.get(question) is not None or record.get(answer) is not None:
            probes += _pairs(role, record, question, answer, where)
    of_file = record.get("portability")
    if isinstance(of_file, Mapping) and any(name in of_file for name in NEW_QUESTION):
        probes += new_questions(record, where=where)
        record = {**record, "portability": None}
    for role, name in _NAMED:
        for kind, entry in _named(record, name, where):
            place = f"{where}, {name}.{kind}"
            refuse_unknown(entry, ("prompt", "ground_truth"), where=place, kind="field of a question")
            probes += _pairs(role, entry, "prompt", "ground_truth", place)
    return placed(lambda: EditRequest(case_id, prompt, subject, target, true, tuple(probes)), where=where)


def _named(record: Mapping[str, object], name: str, where: str) -> Iterator[tuple[str, Mapping[str, object]]]:
    held = record.get(name)
    if held is None:
        return
    if not isinstance(held, Mapping) or not all(isinstance(entry, Mapping) for entry in held.values()):
        raise InputError(
            f"field '{name}' must be an object of objects",
            where=f"{where}, field {name}",
            remedy='for example {"neighborhood": {"prompt": "...", "ground_truth": "..."}}',
        )
    for kind, entry in held.items():
        yield str(kind), entry


def _pairs(role: Role, record: Mapping[str, object], question: str, answer: str, where: str) -> Iterator[Probe]:
    """Yield a probe for each question; a list of questions has a list of as many answers."""
    prompts = texts_of(record, question, where=where)
    if not isinstance(record.get(question), list):
        yield from one_of(role, prompts, answer_list(record, answer, where=where), group=f"{answer} {where[-40:]}")
        return
    answers = record.get(answer)
    if not isinstance(answers, list) or len(answers) != len(prompts) or not prompts:
        raise InputError(
            f"field '{answer}' must hold as many answers as '{question}' has questions ({len(prompts)})",
            where=f"{where}, field {answer}",
            remedy="give one answer for each question",
        )
    for number, (prompt, given) in enumerate(zip(prompts, answers, strict=True)):
        accepted = answer_list({answer: given}, answer, where=where)
        yield from one_of(role, [prompt], accepted, group=f"{answer}[{number}]")
