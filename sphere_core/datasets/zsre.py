"""zsRE in MEND's evaluation format (Levy et al. 2017; Mitchell et al., arXiv 2110.11309) as edit requests."""

from collections.abc import Mapping
from pathlib import Path

from sphere_core.datasets.records import placed, read_records, required_text, text_list
from sphere_core.errors import InputError
from sphere_core.requests import EditRequest, Probe

__all__ = ["load_zsre"]


def load_zsre(path: Path) -> list[EditRequest]:
    """Read a zsRE file: `src` (question with the subject), `subject`, `answers`, `rephrase`, `loc`, `loc_ans`.

    The new target is `answers[0]`; the locality probe asks `loc` with a question mark and expects `loc_ans`,
    as MEMIT's reader does. There is no true target to contrast with. Raises InputError naming file, record
    and field, also where the subject does not occur in the question.
    """
    return [
        _request(record, f"{path}, record {index}", str(record.get("case_id", index)))
        for index, record in enumerate(read_records(path))
    ]


def _request(record: Mapping[str, object], where: str, case_id: str) -> EditRequest:
    subject = required_text(record, "subject", where=where)
    question = required_text(record, "src", where=where)
    answers = text_list(record, "answers", where=where)
    if not answers or not answers[0].strip():
        raise InputError("field 'answers' holds no answer", where=where, remedy="give at least one answer")
    if subject not in question:
        raise InputError(
            f"the subject {subject!r} does not occur in the question {question!r}",
            where=f"{where}, field src",
            remedy="write the subject exactly as it stands in 'src'",
        )
    target = answers[0].strip()
    probes = [Probe("rewrite", question, target)]
    if "rephrase" in record:
        probes.append(Probe("paraphrase", required_text(record, "rephrase", where=where), target))
    if "loc" in record:
        answer = required_text(record, "loc_ans", where=where).strip()
        probes.append(Probe("neighborhood", required_text(record, "loc", where=where) + "?", answer))
    prompt = question.replace(subject, "{}", 1)
    return placed(lambda: EditRequest(case_id, prompt, subject, target, None, tuple(probes)), where=where)
