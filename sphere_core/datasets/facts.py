"""A user's own facts: prompt, subject and new target are enough; everything else is optional."""

import json
from collections.abc import Iterable, Mapping
from typing import get_args

from sphere_core.datasets.records import optional_text, placed, required_text, text_list, where_is
from sphere_core.foundation.errors import InputError, unknown_name
from sphere_core.requests import EditRequest, Probe, Role

__all__ = ["FACT_FIELDS", "facts_requests"]

_LISTS = ("paraphrase_prompts", "neighborhood_prompts", "generation_prompts", "reference_texts")
FACT_FIELDS = ("case_id", "prompt", "subject", "target_new", "target_true", "relation_id", "probes", *_LISTS)
_PROBE_FIELDS = ("role", "prompt", "target", "contrast", "group")


def facts_requests(records: Iterable[Mapping[str, object]], *, source: str) -> list[EditRequest]:
    """Turn a user's records into edit requests, in file order.

    Needed: `prompt` (with `{}` where the subject goes, or with the subject standing in it once), `subject`,
    `target_new`. Optional: the other names of `FACT_FIELDS`; each of the lists may be one text, or, in a CSV cell, a
    JSON list. `probes` holds any further probes as objects {role, prompt, target, contrast, group}. A neighborhood
    prompt asks for `target_true`, so it needs one. Fields whose name begins with `_` are left alone; any other
    unknown name is refused with the nearest valid one, since a mistyped probe would go unasked.
    """
    return [_request(record, *where_is(record, index, source)) for index, record in enumerate(records)]


def _request(record: Mapping[str, object], case_id: str, where: str) -> EditRequest:
    for name in record:
        if name not in FACT_FIELDS and not name.startswith("_"):
            raise unknown_name("field", name, FACT_FIELDS, where=where)
    subject = required_text(record, "subject", where=where).strip()
    prompt = _template(required_text(record, "prompt", where=where).strip(), subject, where)
    target_new = required_text(record, "target_new", where=where).strip()
    target_true = optional_text(record, "target_true", where=where)
    lists = {name: _texts(record, name, where) for name in _LISTS}
    probes = [Probe("rewrite", prompt.replace("{}", subject), target_new, target_true)]
    probes += [Probe("paraphrase", text, target_new, target_true) for text in lists["paraphrase_prompts"]]
    if lists["neighborhood_prompts"] and target_true is None:
        raise InputError(
            "neighborhood prompts ask for the true target, and there is none",
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


def _template(prompt: str, subject: str, where: str) -> str:
    """Return the prompt with `{}` where the subject goes."""
    if "{}" in prompt or prompt.count(subject) == 0:
        return prompt
    if prompt.count(subject) > 1:
        raise InputError(
            f"the subject {subject!r} stands {prompt.count(subject)} times in the prompt {prompt!r}",
            where=f"{where}, field prompt",
            remedy="write '{}' in place of the one that the prompt is about",
        )
    return prompt.replace(subject, "{}")


def _texts(record: Mapping[str, object], name: str, where: str) -> list[str]:
    value = record.get(name)
    if isinstance(value, str):
        value = _cell(value, name, where) if value.lstrip().startswith("[") else [value]
    return [text.strip() for text in text_list({name: value}, name, where=where)]


def _cell(text: str, name: str, where: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"the list in '{name}' is not valid JSON: {error.msg}",
            where=f"{where}, field {name}",
            remedy='write one text, or a JSON list such as ["one", "another"]',
        ) from error


def _probes(record: Mapping[str, object], where: str) -> Iterable[Probe]:
    value = record.get("probes")
    entries = _cell(value, "probes", where) if isinstance(value, str) else value
    if entries is None:
        return
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise InputError(
            "field 'probes' must be a list of objects",
            where=f"{where}, field probes",
            remedy='for example [{"role": "portability", "prompt": "...", "target": "..."}]',
        )
    for number, entry in enumerate(entries):
        place = f"{where}, probes[{number}]"
        for name in entry:
            if name not in _PROBE_FIELDS:
                raise unknown_name("field of a probe", name, _PROBE_FIELDS, where=place)
        role = required_text(entry, "role", where=place)
        if role not in get_args(Role):
            raise unknown_name("role", role, get_args(Role), where=f"{place}, field role")
        known: Role = role  # type: ignore[assignment]  # just looked up among the names of Role
        yield Probe(
            known,
            required_text(entry, "prompt", where=place),
            required_text(entry, "target", where=place).strip(),
            optional_text(entry, "contrast", where=place),
            optional_text(entry, "group", where=place),
        )
