"""zsRE in MEND's evaluation format (Levy et al. 2017; Mitchell et al., arXiv 2110.11309) as edit requests."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from sphere_core.datasets.files import read_records
from sphere_core.datasets.records import placed, required_text, text_list, where_is
from sphere_core.foundation.errors import InputError
from sphere_core.requests import EditRequest, Probe

__all__ = ["load_zsre", "zsre_requests"]


def load_zsre(path: Path) -> list[EditRequest]:
    """Read a zsRE file; raises InputError naming file, record and field."""
    return zsre_requests(read_records(path), source=str(path))


def zsre_requests(records: Iterable[Mapping[str, object]], *, source: str) -> list[EditRequest]:
    """Turn zsRE records into edit requests: `src` (question with the subject), `subject`, `answers`, `rephrase`, `loc`,
    `loc_ans`.

    The new target is `answers[0]`; the locality probe asks `loc` with a question mark and expects `loc_ans`,
    as MEMIT's reader does. There is no true target to contrast with. Raises InputError naming source, record
    and field, also where the subject does not occur in the question.
    """
    return [_request(record, *where_is(record, index, source)) for index, record in enumerate(records)]


def _request(record: Mapping[str, object], case_id: str, where: str) -> EditRequest:
    subject = required_text(record, "subject", where=where)
    question = required_text(record, "src", where=where)
    answers = text_list(record, "answers", where=where, blanks=True)
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
    if record.get("rephrase") is not None:
        probes.append(Probe("paraphrase", required_text(record, "rephrase", where=where), target))
    if record.get("loc") is not None:
        answer = required_text(record, "loc_ans", where=where).strip()
        probes.append(Probe("neighborhood", required_text(record, "loc", where=where) + "?", answer))
    prompt = question.replace(subject, "{}", 1)
    return placed(lambda: EditRequest(case_id, prompt, subject, target, None, tuple(probes)), where=where)
