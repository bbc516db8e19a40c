"""zsRE in MEND's evaluation format (Levy et al. 2017; Mitchell et al., arXiv 2110.11309) as edit requests."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from sphere_core.datasets.files import read_records
from sphere_core.datasets.new_questions import new_questions
from sphere_core.datasets.records import IncompleteRecord, placed, refuse_unknown, required_text, texts_of, where_is
from sphere_core.datasets.subjects import template_of
from sphere_core.foundation.errors import InputError
from sphere_core.requests import EditRequest, Probe

__all__ = ["load_zsre", "zsre_alt_request", "zsre_request"]

_FIELDS = ("case_id", "subject", "src", "answers", "alt", "rephrase", "loc", "loc_ans", "portability")
# What the published file holds beside: the answer of another model, and both answers in one text.
_OTHERS = ("pred", "cond")
# Question mark, exclamation mark and full stop, also in their full-width forms, and the ellipsis.
_MARKS = "?!.\u2026\uff1f\uff01\u3002"
# What tokenizers and converters leave where an answer was.
_NO_ANSWERS = ("<unk>", "[UNK]", "nan")


# What EasyEdit and UltraEdit call these fields.
_MEANT = {
    "ans": "answers",
    "ground_truth": "answers",
    "target_new": "alt",
    "prompt": "src",
    "question": "src",
    "rephrase_prompt": "rephrase",
    "locality": "loc",
    "locality_prompt": "loc",
    "locality_ground_truth": "loc_ans",
}


def load_zsre(path: Path) -> list[EditRequest]:
    """Read a zsRE file; raises InputError naming file, record and field."""
    return [zsre_request(record, index, str(path)) for index, record in enumerate(read_records(path))]


def zsre_request(record: Mapping[str, object], index: int, source: str) -> EditRequest:
    """Turn one zsRE record into an edit request: `src` (question with the subject), `subject`, `answers`, `rephrase`,
    `loc`, `loc_ans`.

    The new target is `answers[0]`, the true answer, as in MEMIT's reader and the papers that follow it. The locality
    probe asks `loc`, with a question mark unless it ends in a mark already, and expects `loc_ans`. `rephrase` may be
    one text or several. There is no true target to contrast with. Raises InputError naming source, record and field;
    IncompleteRecord where the subject is not in the question, is there twice, or only inside a longer word.
    """
    return _request(record, *where_is(record, index, source), "answers")


def zsre_alt_request(record: Mapping[str, object], index: int, source: str) -> EditRequest:
    """Turn one zsRE record into an edit request whose target is `alt`, a false answer, as in EasyEdit's reader.

    Where `portability` is there in EasyEdit's form (`New Question`, `New Answer`), it follows from `alt` and is asked.
    Some records of the published file have an empty `alt`: raises IncompleteRecord.
    """
    return _request(record, *where_is(record, index, source), "alt")


def _request(record: Mapping[str, object], case_id: str, where: str, chosen: Literal["answers", "alt"]) -> EditRequest:
    refuse_unknown(record, _FIELDS, where=where, needed=("src", "subject"), others=_OTHERS, meant=_MEANT)
    subject = required_text(record, "subject", where=where)
    question = required_text(record, "src", where=where)
    prompt = template_of(question, subject, where=where, field="src")
    question = prompt.replace("{}", subject)
    target = _alternative(record, where) if chosen == "alt" else _first_answer(record, where)
    probes = [Probe("rewrite", question, target)]
    probes += [Probe("paraphrase", text, target) for text in texts_of(record, "rephrase", where=where)]
    if record.get("loc") is not None or record.get("loc_ans") is not None:
        asked = _with_mark(required_text(record, "loc", where=where))
        probes.append(Probe("neighborhood", asked, required_text(record, "loc_ans", where=where)))
    follows = new_questions(record, where=where)
    probes += follows if chosen == "alt" else []  # what follows from `alt` does not follow from the true answer
    return placed(lambda: EditRequest(case_id, prompt, subject, target, None, tuple(probes)), where=where)


def _first_answer(record: Mapping[str, object], where: str) -> str:
    answers = texts_of(record, "answers", where=where)
    if not answers:
        raise InputError(
            "field 'answers' holds no answer", where=f"{where}, field answers", remedy="give at least one answer"
        )
    if answers[0] in _NO_ANSWERS:
        raise IncompleteRecord(
            f"the answer is '{answers[0]}', which names no answer",
            where=f"{where}, field answers",
            remedy="give the answer itself, or leave such records out (--incomplete skip)",
        )
    return answers[0]


def _alternative(record: Mapping[str, object], where: str) -> str:
    if record.get("alt") == "":
        raise IncompleteRecord(
            "field 'alt' is empty",
            where=f"{where}, field alt",
            remedy="leave such records out, as EasyEdit does: incomplete: skip",
        )
    return required_text(record, "alt", where=where)


def _with_mark(question: str) -> str:
    """Return a question with its question mark; one that ends in a mark of its own keeps that."""
    return question if question[-1] in _MARKS else f"{question}?"
