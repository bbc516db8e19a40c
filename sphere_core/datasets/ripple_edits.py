"""RippleEdits (Cohen et al., arXiv 2307.12976) as edit requests, with its condition on what was known before."""

from collections.abc import Iterator, Mapping, Sequence

from sphere_core.datasets.records import (
    IncompleteRecord,
    answer_list,
    either_name,
    objects,
    optional_text,
    placed,
    refuse_unknown,
    required_text,
    where_is,
)
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.look_alikes import why_absent
from sphere_core.requests import EditRequest, KnownFact, Probe, Role

__all__ = ["ripple_edits_request"]

# Its criteria and the role each is asked in: what should follow from the edit, and what should not change.
_CRITERIA: dict[str, Role] = {
    "Logical_Generalization": "portability",
    "Compositionality_I": "multi_hop",
    "Compositionality_II": "multi_hop",
    "Subject_Aliasing": "portability",
    "Relation_Specificity": "neighborhood",
    "Relation_Specifity": "neighborhood",
    "Forgetfulness": "neighborhood",
}
# Those that ask other things of the very subject, under its own name.
_SAME_SUBJECT = ("Relation_Specificity", "Relation_Specifity")
_FIELDS = ("case_id", "edit", *_CRITERIA)
_EDIT = ("prompt", "subject", "target", "relation", "original_fact", "previous_fact", "subject_id", "target_id")
_TEST = ("test_queries", "condition_queries", "test_condition")
_QUERY = ("prompt", "answers", "phrase", "subject_id")
_QUERY_OTHERS = ("query_type", "relation", "target_ids", "second_relation", "second_hop_target_ids")
_VERBS = (" is ", " are ")
_EXAMPLE = '[{"test_queries": [{"prompt": "...", "answers": [{"value": "...", "aliases": []}]}]}]'


def ripple_edits_request(record: Mapping[str, object], index: int, source: str) -> EditRequest:
    """Turn one RippleEdits record into an edit request.

    `edit.prompt` is a sentence, "The name of the mother of SUBJECT is TARGET."; subject and target are found in it by
    the verb and by what the record's other questions about the same subject end in, or given as `edit.subject` and
    `edit.target`. Compositionality is asked as multi_hop, logical generalization and subject aliasing as portability,
    relation specificity and forgetfulness as neighborhood. Of the answers of a question (values and aliases) any
    counts, and any question of a test whose condition is OR; the questions of an AND test are asked one by one. The
    condition queries of a test come along: the test is asked only where the unedited model knows them. Raises
    InputError naming the field; IncompleteRecord if subject or target cannot be found.
    """
    case_id, where = where_is(record, index, source)
    refuse_unknown(record, _FIELDS, where=where, needed=("edit",), others=("example_type",))
    edit = record["edit"]
    if not isinstance(edit, Mapping):
        required_text(record, "edit.prompt", where=where)
        raise AssertionError("a record without an edit object has no prompt")
    inside = f"{where}, edit"
    refuse_unknown(edit, _EDIT, where=inside, kind="field of 'edit'")
    head, target = _sentence(edit, inside)
    subject = optional_text(edit, "subject", where=inside) or _subject(record, edit, head, inside)
    if subject not in head:
        raise IncompleteRecord(
            f"the subject {subject!r} does not occur in the sentence up to its verb, {head!r}",
            where=f"{inside}, field subject",
            remedy=why_absent(head, subject) or "write the subject exactly as it is in 'prompt'",
        )
    place = head.rindex(subject)
    prompt = head[:place] + "{}" + head[place + len(subject) :]
    true = _true_target(edit, inside)
    probes = [Probe("rewrite", head, target, true)]
    for criterion, role in _CRITERIA.items():
        for number, test in enumerate(objects(record, criterion, where=where, example=_EXAMPLE)):
            probes += _test(test, role, f"{criterion}[{number}]", where)
    relation = optional_text(edit, "relation", where=inside)
    return placed(
        lambda: EditRequest(case_id, prompt, subject, target, true, tuple(probes), relation),
        where=where,
    )


def _true_target(edit: Mapping[str, object], where: str) -> str | None:
    """Return the target of the fact that an edit replaces; None if the record names no such fact."""
    name = either_name(edit, ("original_fact", "previous_fact"), where=where)
    before = edit.get(name)
    if before is None:
        return None
    if not isinstance(before, Mapping):
        raise InputError(
            f"field '{name}' must be an object, not {before!r:.80}",
            where=f"{where}, field {name}",
            remedy='write {"prompt": "... is TARGET."}, or leave it out',
        )
    return _sentence(before, f"{where}, {name}")[1]


def _sentence(fact: Mapping[str, object], where: str) -> tuple[str, str]:
    """Return a fact's sentence up to its verb, and its target."""
    whole = required_text(fact, "prompt", where=where)
    sentence = whole.removesuffix(".")
    target = optional_text(fact, "target", where=where)
    if target is not None:
        for text in (sentence, whole):  # the full stop may be part of the target: "U.S."
            if text.endswith(f" {target}"):
                return text[: -len(target)].rstrip(), target
        raise InputError(
            f"the sentence {whole!r} does not end in the target {target!r}",
            where=f"{where}, field target",
            remedy="write the target exactly as it is in 'prompt', or leave it out",
        )
    places = [(sentence.find(verb), verb) for verb in _VERBS if verb in sentence]
    if len(places) != 1 or sentence.count(places[0][1]) != 1:
        raise IncompleteRecord(
            f"it is not clear where the target begins in {sentence!r}",
            where=f"{where}, field prompt",
            remedy="give the target as 'target' in the record's 'edit', or leave such records out: incomplete: skip",
        )
    place, verb = places[0]
    return sentence[: place + len(verb)].rstrip(), sentence[place + len(verb) :].strip()


def _subject(record: Mapping[str, object], edit: Mapping[str, object], head: str, where: str) -> str:
    """Return the subject of an edit: what follows the relation's words, or what its other questions end in as well."""
    asked = _without_verb(head)
    relation = str(edit.get("relation") or "").replace("_", " ").lower()
    if relation and f" {relation} of " in asked.lower():
        return asked[asked.lower().index(f" {relation} of ") + len(relation) + 5 :]
    candidates = []
    for criterion in _SAME_SUBJECT:
        for test in objects(record, criterion, where=where, example=_EXAMPLE):
            for query in objects(test, "test_queries", where=where, example=_EXAMPLE):
                same = query.get("subject_id") == edit.get("subject_id") is not None
                if same and isinstance(query.get("prompt"), str) and _without_verb(str(query["prompt"])) != asked:
                    candidates.append(_common_end(asked, _without_verb(str(query["prompt"]))))
    found = min(candidates, key=len, default="")
    if not found or not all(name.endswith(found) for name in candidates):
        raise IncompleteRecord(
            f"it is not clear which part of {head!r} is the subject",
            where=f"{where}, field prompt",
            remedy="give it as 'subject' in the record's 'edit', or leave such records out: incomplete: skip",
        )
    return found


def _without_verb(prompt: str) -> str:
    text = f"{prompt.strip()} "
    verb = next((verb for verb in _VERBS if text.endswith(verb)), "")
    return text.removesuffix(verb).strip()


def _common_end(one: str, other: str) -> str:
    """Return the words that two texts end in, behind the "of" that both have; nothing where they have none."""
    first, second = one.split(), other.split()
    count = 0
    while count < min(len(first), len(second)) and first[-1 - count] == second[-1 - count]:
        count += 1
    words = first[len(first) - count :]
    return " ".join(words[1:]) if words[:1] == ["of"] else ""


def _test(test: Mapping[str, object], role: Role, name: str, where: str) -> Iterator[Probe]:
    place = f"{where}, {name}"
    refuse_unknown(test, _TEST, where=place, kind="field of a test")
    known = tuple(
        KnownFact(prompt, tuple(answers))
        for prompt, answers in _queries(objects(test, "condition_queries", where=place, example=_EXAMPLE), place)
    )
    asked = list(_queries(objects(test, "test_queries", where=place, example=_EXAMPLE), place))
    if test.get("test_queries") is None:
        raise InputError("field 'test_queries' is missing", where=place, remedy=f"for example {_EXAMPLE}")
    condition = test.get("test_condition")
    if condition is not None and str(condition).upper() not in ("OR", "AND"):
        raise InputError(
            f"field 'test_condition' must be OR or AND, not {condition!r:.80}",
            where=f"{place}, field test_condition",
            remedy="write OR (any of the queries counts) or AND (each counts by itself)",
        )
    all_count = str(condition).upper() == "AND"
    for number, (prompt, answers) in enumerate(asked):
        group = f"{name}.{number}" if all_count else name
        for answer in answers:
            alone = len(answers) == 1 and (all_count or len(asked) == 1)
            yield Probe(role, prompt, answer, group=None if alone else group, known_before=known)


def _queries(queries: Sequence[Mapping[str, object]], where: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each query that has answers: its prompt, and any of its answers and their aliases.

    A query without any is left out, as the benchmark's own code does: nothing counts as right there.
    """
    for number, query in enumerate(queries):
        place = f"{where}, query {number}"
        refuse_unknown(query, _QUERY, where=place, others=_QUERY_OTHERS, kind="field of a query")
        if "answers" not in query:
            raise InputError("field 'answers' is missing", where=place, remedy="every query needs 'answers', if empty")
        answers: list[str] = []
        for entry in objects(query, "answers", where=place, example='[{"value": "...", "aliases": []}]'):
            refuse_unknown(entry, ("value", "aliases"), where=place, kind="field of an answer")
            value = entry.get("value")
            given = [*([] if value in (None, "") else [value]), *_aliases(entry, place)]
            if any(not isinstance(text, str) or text.strip() for text in given):
                answers += answer_list({"answers": given}, "answers", where=place)
        # One letter is not a name: the benchmark leaves such aliases out.
        answers = [answer for answer in dict.fromkeys(answers) if len(answer) > 1 or answer.isdigit()]
        if answers:
            yield required_text(query, "prompt" if query.get("phrase") is None else "phrase", where=place), answers


def _aliases(answer: Mapping[str, object], where: str) -> list[object]:
    """Return the aliases of an answer: a list of them, or one text."""
    held = answer.get("aliases")
    if isinstance(held, str):
        return [held]
    if held is not None and not (isinstance(held, list) and all(isinstance(text, str | int) for text in held)):
        raise InputError(
            f"field 'aliases' must be a list of texts, not {held!r:.80}",
            where=f"{where}, field aliases",
            remedy='write a list such as ["one", "another"]',
        )
    return held or []
