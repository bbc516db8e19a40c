"""CounterFact's attribute snippets: texts about other subjects with the new target, which consistency compares with."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sphere_core.datasets.files import read_records
from sphere_core.datasets.records import Record, optional_text, required_text
from sphere_core.foundation.errors import InputError

__all__ = ["with_snippets"]

_Target = tuple[str, str]


def with_snippets(records: Sequence[Record], raw: Sequence[Mapping[str, object]], path: Path) -> list[Record]:
    """Return the records with the reference texts that a snippets file has for their relation and new target.

    `raw` are the CounterFact records they were read from, with `relation_id` and `target_new.id`. An entry of
    the file is {relation_id, target_id, samples: [{text, ...}]}. Texts a record already has are kept in front.
    Raises InputError if the file has another schema, or says nothing about any record.
    """
    wanted = [_target(record, f"record {index}") for index, record in enumerate(raw)]
    texts = _texts(path, {target for target in wanted if target is not None})
    if not texts:
        raise InputError(
            "the snippets say nothing about any record of the data set",
            where=str(path),
            remedy="records need 'relation_id' and 'target_new.id', as in CounterFact",
        )
    found = []
    for record, target in zip(records, wanted, strict=True):
        if not record.requests:
            found.append(record)
            continue
        (request,) = record.requests
        references = (*request.reference_texts, *(texts.get(target, ()) if target is not None else ()))
        found.append(Record(record.case_id, (replace(request, reference_texts=references),)))
    return found


def _target(record: Mapping[str, object], where: str) -> _Target | None:
    relation = optional_text(record, "requested_rewrite.relation_id", where=where)
    target = optional_text(record, "requested_rewrite.target_new.id", where=where)
    return None if relation is None or target is None else (relation, target)


def _texts(path: Path, wanted: set[_Target]) -> dict[_Target, list[str]]:
    texts: dict[_Target, list[str]] = {}
    for index, entry in enumerate(read_records(path)):
        where = f"{path}, record {index}"
        target = (required_text(entry, "relation_id", where=where), required_text(entry, "target_id", where=where))
        if target not in wanted:
            continue
        samples = entry.get("samples")
        if not isinstance(samples, list) or not all(isinstance(sample, Mapping) for sample in samples):
            raise InputError(
                "field 'samples' must be a list of objects", where=where, remedy="give attribute_snippets.json"
            )
        texts.setdefault(target, []).extend(required_text(sample, "text", where=where) for sample in samples)
    return texts
