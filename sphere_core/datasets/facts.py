"""A user's own facts: prompt, subject and new target are enough; everything else is optional."""

from collections.abc import Iterable, Mapping
from typing import get_args

from sphere_core.datasets.records import (
    objects,
    optional_text,
    placed,
    refuse_unknown,
    required_text,
    target_text,
    text_list,
    texts_of,
    where_is,
)
from sphere_core.datasets.subjects import template_of
from sphere_core.foundation.errors import InputError, unknown_name
from sphere_core.foundation.json_files import parse_json
from sphere_core.requests import EditRequest, Probe, Role

__all__ = ["FACT_FIELDS", "facts_request"]

_LISTS = ("paraphrase_prompts", "neighborhood_prompts", "generation_prompts", "reference_texts")
FACT_FIELDS = ("case_id", "prompt", "subject", "target_new", "target_true", "relation_id", "probes", *_LISTS)
_EXAMPLE = '[{"role": "portability", "prompt": "...", "target": "..."}]'
_PROBE_FIELDS = ("role", "prompt", "target", "contrast", "group")


def facts_request(record: Mapping[str, object], index: int, source: str) -> EditRequest:
    """Turn one of a user's records into an edit request.

    Needed: `prompt` (with `{}` where the subject goes, or with the subject in it once), `subject`,
    `target_new`. Optional: the other names of `FACT_FIELDS`; each of the lists may be one text, or, in a CSV cell, a
    JSON list. `probes` holds any further probes as objects {role, prompt, target, contrast, group}. A neighborhood
    prompt needs `target_true`. Fields whose name begins with `_` are left alone; any other
    unknown name is refused with the nearest valid one, since a mistyped probe would go unasked. Raises InputError.
    """
    case_id, where = where_is(record, index, source)
    refuse_unknown(record, FACT_FIELDS, where=where, needed=("prompt", "subject", "target_new"))
    subject = required_text(record, "subject", where=where)
    prompt = template_of(required_text(record, "prompt", where=where), subject, where=where)
    target_new = target_text(record, "target_new", where=where) or required_text(record, "target_new", where=where)
    target_true = target_text(record, "target_true", where=where)
    lists = {name: _texts(record, name, where) for name in _LISTS}
    probes = [Probe("rewrite", prompt.replace("{}", subject), target_new, target_true)]
    probes += [Probe("paraphrase", text, target_new, target_true) for text in lists["paraphrase_prompts"]]
    if lists["neighborhood_prompts"] and target_true is None:
        raise InputError(
            "neighborhood prompts require a true target, and the record has none",
            where=f"{where}, field neighborhood_prompts",
            remedy="give 'target_true', or give them as 'probes' with a target of their own",
        )
    probes += [Probe("neighborhood", text, str(target_true), target_new) for text in lists["neighborhood_prompts"]]
    probes += _probes(record, where)
    return placed(
        lambda: EditRequest(
            case_id,
            prompt,
            subject,
            target_new,
            target_true,
            tuple(probes),
            relation=optional_text(record, "relation_id", where=where),
            generation_prompts=tuple(lists["generation_prompts"]),
            reference_texts=tuple(lists["reference_texts"]),
        ),
        where=where,
    )


def _texts(record: Mapping[str, object], name: str, where: str) -> list[str]:
    value = record.get(name)
    if isinstance(value, str) and value.lstrip().startswith("["):
        return text_list({name: _cell(value, name, where)}, name, where=where)
    return texts_of(record, name, where=where)


def _cell(text: str, name: str, where: str) -> object:
    place = f"{where}, field {name}"
    try:
        return parse_json(text, where=place)
    except InputError as error:
        raise InputError(
            f"the list in '{name}': {error.what}",
            where=error.where,
            remedy='write one text, or a JSON list such as ["one", "another"]',
        ) from error


def _probes(record: Mapping[str, object], where: str) -> Iterable[Probe]:
    value = record.get("probes")
    if isinstance(value, str):
        value = _cell(value, "probes", where)
    for number, entry in enumerate(objects({"probes": value}, "probes", where=where, example=_EXAMPLE)):
        place = f"{where}, probes[{number}]"
        refuse_unknown(entry, _PROBE_FIELDS, where=place, kind="field of a probe")
        role = required_text(entry, "role", where=place)
        if role not in get_args(Role):
            raise unknown_name("role", role, get_args(Role), where=f"{place}, field role")
        known: Role = role  # type: ignore[assignment]  # just looked up among the names of Role
        yield Probe(
            known,
            required_text(entry, "prompt", where=place),
            required_text(entry, "target", where=place),
            optional_text(entry, "contrast", where=place),
            optional_text(entry, "group", where=place),
        )
