"""Fields of a record, with errors that name the file, the record and the field."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from sphere_core.foundation.errors import InputError, nearest_name, odd_characters, unknown_name
from sphere_core.foundation.user_files import text_fault
from sphere_core.requests import EditRequest

__all__ = [
    "IncompleteRecord",
    "Record",
    "answer_list",
    "either_name",
    "objects",
    "one_answer",
    "optional_text",
    "placed",
    "refuse_unknown",
    "required_text",
    "target_text",
    "text_list",
    "texts_of",
    "where_is",
]


class IncompleteRecord(InputError):
    """A record that cannot be edited as it is: it has no target, or its subject has no one place in the prompt.

    Published files have some; `incomplete: skip` leaves them out.
    """


# A field that only one schema has, and the schema.
_SIGNATURES = {
    "requested_rewrite": "counterfact",
    "src": "zsre",
    "edit": "ripple_edits",
    "update": "wikibigedit",
    "para_question": "unke",
    "locality": "knowedit",
    "labels": "knowedit",
    "rephrase_prompt": "easyedit",
    "prompt": "facts",
}


@dataclass(frozen=True)
class Record:
    """The edit requests of one record of a data set, which stay together in every order: one, or in MQuAKE several."""

    case_id: str
    requests: tuple[EditRequest, ...]


def where_is(record: Mapping[str, object], index: int, source: str, *, field: str = "case_id") -> tuple[str, str]:
    """Return a record's case id (its place in the file where it has none) and how errors call the record.

    Raises InputError for an id that is neither a text nor a whole number: NaN, true, a list.
    """
    given = record.get(field)
    is_number = isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given)
    if isinstance(given, float) and is_number and given.is_integer():
        given = int(given)  # as columns of numbers with a gap are written
    is_sound = isinstance(given, str) and text_fault(given) is None
    if given is not None and not is_sound and not (is_number and isinstance(given, int)):
        raise InputError(
            f"'{field}' must be a text or a whole number, not {given!r:.80}",
            where=f"{source}, record {index}, field {field}",
            remedy="number the records, or leave the field out",
        )
    case_id = str(index if given is None else given).strip()
    return case_id, f"{source}, record {index} (case {case_id[:80]})"


def refuse_unknown(
    record: Mapping[str, object],
    known: Collection[str],
    *,
    where: str,
    needed: Sequence[str] = (),
    others: Collection[str] = (),
    kind: str = "field",
    meant: Mapping[str, str] | None = None,
) -> None:
    """Raise InputError for a field that is neither `known` nor one of the `others` that published files have.

    A mistyped field would go unread, and what it asks would go unasked. Names that begin with `_` are left alone. A
    record without a `needed` field is of another schema, unless one of its fields looks like it. `meant` has the names
    that other schemas give to known fields.
    """
    strange = [str(name) for name in record if name not in known and name not in others and str(name)[:1] != "_"]
    for name in needed:
        if name not in record and nearest_name(name, strange) is None:
            looks = next((schema for field, schema in _SIGNATURES.items() if field in record), None)
            hint = f"; its fields look like those of '{looks}'" if looks else ""
            odd = next((f"'{found}'{marks}" for found in strange if (marks := odd_characters(found))), None)
            hint += f"; is {odd} meant?" if odd else ""
            raise InputError(f"field '{name}' is missing", where=where, remedy=f"every record needs '{name}'{hint}")
    for name in strange:
        if meant is not None and name in meant:
            hint = f"did you mean '{meant[name]}'? valid: {', '.join(sorted(known))}"
            raise InputError(f"unknown {kind} '{name}'", where=where, remedy=hint)
    if strange:
        raise unknown_name(kind, strange[0], known, where=where)


def required_text(record: Mapping[str, object], field: str, *, where: str) -> str:
    """Return the text at a dotted field path without blanks around it; raises InputError naming what is missing."""
    value: object = record
    walked: list[str] = []
    for part in field.split("."):
        walked.append(part)
        if isinstance(value, Mapping) and value.get(part) is None:
            raise InputError(
                f"field '{'.'.join(walked)}' is missing", where=where, remedy=f"every record needs '{field}'"
            )
        if not isinstance(value, Mapping):
            raise InputError(
                f"field '{'.'.join(walked[:-1])}' must be an object with '{part}', not {value!r:.80}",
                where=f"{where}, field {'.'.join(walked[:-1])}",
                remedy=f"every record needs '{field}'",
            )
        value = value[part]
    return _sound(value, field, where)


def optional_text(record: Mapping[str, object], field: str, *, where: str) -> str | None:
    """Return the text at a dotted field path without blanks around it, None if the path ends early.

    What is present must have the right shape: an object along the path, a non-empty text at its end. Null counts as
    absent, as columnar files write it.
    """
    value: object = record
    for part in field.split("."):
        if value is None:
            return None
        if not isinstance(value, Mapping):
            break
        value = value.get(part)
    return None if value is None else required_text(record, field, where=where)


def target_text(record: Mapping[str, object], field: str, *, where: str, prefix: str = "") -> str | None:
    """Return an answer: a text, a list of one text, or an object with either under `str`; None if it is absent.

    Any other shape is an InputError, since an answer that is passed over takes its contrast and its probes along.
    `prefix` is what errors put before the field's name.
    """
    value, shown = record.get(field), f"{prefix}{field}"
    if isinstance(value, Mapping):
        refuse_unknown(value, ("str", "id"), where=f"{where}, field {shown}", kind=f"field of '{shown}'")
        shown = f"{shown}.str"
        held = value.get("str")
        if held is None and value:
            raise InputError(f"field '{shown}' is missing", where=where, remedy=f"every record needs '{shown}'")
        value = held
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None:
        return None
    if not isinstance(value, str):
        raise InputError(
            f"field '{shown}' must be a non-empty text, one, not {value!r:.80}",
            where=f"{where}, field {shown}",
            remedy='write a text, or {"str": "..."}',
        )
    return _sound(value, shown, where)


def text_list(record: Mapping[str, object], field: str, *, where: str, blanks: bool = False) -> list[str]:
    """Return a list of texts without blanks around them, empty if the field is absent.

    A text of blanks is refused, or left out where `blanks`.
    """
    value = record.get(field)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InputError(
            f"field '{field}' must be a list of texts",
            where=f"{where}, field {field}",
            remedy='write a list such as ["one", "another"]',
        )
    texts = []
    for place, item in enumerate(value):
        fault = text_fault(item)
        if fault is None:
            texts.append(item.strip())
        elif not blanks or "surrogate" in fault:
            raise InputError(
                f"entry {place} of field '{field}' {fault}",
                where=f"{where}, field {field}",
                remedy="write a text there, or take the entry out",
            )
    return texts


def texts_of(record: Mapping[str, object], field: str, *, where: str) -> list[str]:
    """Return the texts of a field that holds one text or a list of them, empty if it is absent."""
    value = record.get(field)
    return text_list({field: [value]} if isinstance(value, str) else record, field, where=where)


def answer_list(record: Mapping[str, object], field: str, *, where: str) -> list[str]:
    """Return the answers that a field accepts, each once: a text, a list of texts, or a list of lists of aliases."""
    value = record.get(field)
    if value is None:
        raise InputError(f"field '{field}' is missing", where=where, remedy=f"give the answer as '{field}'")
    nested = value if isinstance(value, list) else [value]
    flat = [answer for part in nested for answer in (part if isinstance(part, list) else [part])]
    # Published files hold years as numbers.
    texts = [str(answer) if isinstance(answer, int) and not isinstance(answer, bool) else answer for answer in flat]
    answers = list(dict.fromkeys(text_list({field: texts}, field, where=where, blanks=True)))
    if not answers:
        raise InputError(
            f"field '{field}' holds no answer", where=f"{where}, field {field}", remedy="write a text there"
        )
    return answers


def one_answer(record: Mapping[str, object], field: str, *, where: str) -> str:
    """Return the one answer of a field: a text, a whole number as its text, or a list of one of these.

    Of several, none is the one that is meant: raises InputError.
    """
    answers = answer_list(record, field, where=where)
    value = record.get(field)
    count = max(len(answers), len(value) if isinstance(value, list) else 1)
    if count > 1:
        raise InputError(
            f"field '{field}' must hold one answer, not {count}",
            where=f"{where}, field {field}",
            remedy="write the one that is meant",
        )
    return answers[0]


def either_name(record: Mapping[str, object], names: Sequence[str], *, where: str) -> str:
    """Return under which of several names a record gives one thing, the first where it gives none.

    Raises InputError if two names give different things.
    """
    given = [name for name in names if record.get(name) is not None]
    for name in given[1:]:
        if record[name] != record[given[0]]:
            raise InputError(
                f"'{given[0]}' and '{name}' are both given, and differ",
                where=f"{where}, field {name}",
                remedy="they are two names of one thing: keep the one that is meant",
            )
    return given[0] if given else names[0]


def objects(record: Mapping[str, object], field: str, *, where: str, example: str) -> Sequence[Mapping[str, object]]:
    """Return a list of objects, empty if the field is absent; raises InputError for any other shape."""
    value = record.get(field)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(entry, Mapping) for entry in value):
        raise InputError(
            f"field '{field}' must be a list of objects",
            where=f"{where}, field {field}",
            remedy=f"for example {example}",
        )
    return value


def placed(build: Callable[[], EditRequest], *, where: str) -> EditRequest:
    """Build a request; a fault in it is raised with the file and the record that it is in."""
    try:
        return build()
    except InputError as error:
        field = (error.where or "").rpartition(", ")[2]
        raise error.replaced(where=f"{where}, {field}") from error


def _sound(value: object, field: str, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InputError(
            f"field '{field}' must be a non-empty text, not {value!r:.80}",
            where=f"{where}, field {field}",
            remedy="write a text there",
        )
    fault = text_fault(value)
    if fault is not None:
        raise InputError(
            f"field '{field}' {fault}", where=f"{where}, field {field}", remedy="write the text out in plain characters"
        )
    return value.strip()
