"""Published hyperparameter files as they are: JSON and YAML, in the spellings of each method's release."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.json_files import json_kind, parse_json
from sphere_core.foundation.user_files import read_text
from sphere_core.foundation.yaml_files import parse_user_yaml
from sphere_core.foundation.yaml_text import parse_yaml
from sphere_core.hyperparameters.build import Fault, build_hyperparameters
from sphere_core.hyperparameters.fields import Hyperparameters
from sphere_core.hyperparameters.owners import fields_of
from sphere_core.hyperparameters.places import DOWN

__all__ = ["ReleasedFile", "read_hyperparameters", "released_values"]

# YAML 1.1 reads a number without a point, such as 3e-1, as a text; published files mean the number.
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_MODULE = re.compile(r"(.*\D)(\d+)(\D.*)")


@dataclass(frozen=True)
class ReleasedFile:
    """What a published file says, and what else was taken from the method's release: notes to show, one per key."""

    values: Hyperparameters
    notes: tuple[str, ...]


def read_hyperparameters(path: Path, rows: Sequence[str]) -> ReleasedFile:
    """Read a published hyperparameter file for a method, given by its editor and regularizers.

    Released spellings are read by the table `released_keys.yaml`; keys that cannot change a number are passed over, and
    so are those that would change the method at the values at which they do not. What a release has in its code is
    added and noted. Raises InputError with every key that is wrong.
    """
    text = read_text(path, what="hyperparameter file")
    is_yaml = path.suffix.lower() in (".yaml", ".yml") or not text.lstrip().startswith(("{", "["))
    values = parse_user_yaml(text, where=str(path)).data if is_yaml else parse_json(text, where=str(path))
    if not isinstance(values, dict):
        raise InputError(
            f"hyperparameters must be one object of keys and values, not {json_kind(values)}",
            where=str(path),
            remedy="give a published file, such as hparams/MEMIT/gpt2-xl.json of MEMIT",
        )
    found, notes, faults = released_values(values, rows)
    return ReleasedFile(build_hyperparameters(found, where=str(path), rows=rows, faults=faults), tuple(notes))


@dataclass
class _Reading:
    """What has been read of a file: values under our names, the key that each was given under, notes and faults."""

    values: dict[str, Any] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def take(self, name: str, key: str, value: Any) -> None:
        """Keep a value, unless another key of the file has given the same hyperparameter another one."""
        before = self.keys.setdefault(name, key)
        if before == key or self.values[name] == value:
            self.values[name] = value
            return
        given = f"{_shown(value)} here and {_shown(self.values[name])} under '{before}', which is the same"
        self.faults.append((key, given if key == name else f"{given} ('{name}')", "leave one of them out"))


def released_values(values: Mapping[str, Any], rows: Sequence[str]) -> tuple[dict[str, Any], list[str], list[Fault]]:
    """Return the hyperparameters of a published file under our names, notes to show, and the faults of its keys."""
    table = _table()
    ignored = {key for keys in table["ignored"].values() for key in keys}
    ignored |= {key for row in rows for key in table["ignored_for"].get(row, {}).get("keys", ())}
    reading = _Reading()
    for key, given in values.items():
        value = _number(given)
        if (alias := _for_rows(table["aliases"].get(key, ()), rows)) is not None:
            _translate(key, value, alias, values, reading)
        elif (rule := _for_rows(table["only_off"].get(key, ()), rows)) is not None:
            reading.faults += _unless_off(key, value, rule)
        elif key in table["said_by_the_method"]:
            reading.notes += _said(key, value, table["said_by_the_method"][key], rows)
        elif key == "layer_selection" and value != "all":
            reading.faults.append((key, "only 'all' is supported", ""))
        elif key in ignored or _is_elsewhere(key, values, rows):
            continue
        elif key == "inner_params":
            _modules(value, reading, table["modules"])
        elif key == "target_modules" and "lora" in rows:
            _adapted(value, values.get("layers"), reading, table["modules"])
        else:
            _take(key, value, table["unset"], reading)
    constants = _constants(table["constants"], reading.values, rows, reading.notes)
    return reading.values | constants, reading.notes, reading.faults


def _for_rows(entries: Any, rows: Sequence[str]) -> Mapping[str, Any] | None:
    """Return the entry of a key that holds for these rows; one without `rows` holds for all."""
    listed: Sequence[Mapping[str, Any]] = [entries] if isinstance(entries, Mapping) else entries
    return next((entry for entry in listed if "rows" not in entry or {*entry["rows"]} & {*rows}), None)


def _translate(key: str, value: Any, alias: Mapping[str, Any], values: Mapping[str, Any], reading: _Reading) -> None:
    """Take a value under our name: as it is, by the words of the alias, or divided by that of another key (`per`)."""
    taken = alias.get("values", {}).get(str(value).lower(), value)
    if "per" in alias:
        divisor = next((_number(values[name]) for name in alias["per"] if name in values), None)
        if not _is_positive(divisor) or not _is_positive(value):
            reading.faults.append((key, f"is divided by '{alias['per'][0]}': both must be positive numbers", ""))
            return
        taken = value / divisor
    reading.take(alias["name"], key, taken)
    if "note" in alias:
        reading.notes.append(f"{key}: {alias['note']}")


def _unless_off(key: str, value: Any, rule: Mapping[str, Any]) -> list[Fault]:
    if _is_among(value, rule["values"]):
        return []
    reason = rule.get("reason")
    what = "changes the method and is not supported" if reason is None else f"is not supported: {reason}"
    accepted = " or ".join(dict.fromkeys(_shown(choice) for choice in rule["values"]))
    return [(key, f"{_shown(value)} {what}", f"accepted: {accepted}" if accepted else "leave it out")]


def _take(key: str, value: Any, unset: Mapping[str, Any], reading: _Reading) -> None:
    rule = unset.get(key)
    if rule is not None and _is_among(value, rule["values"]):
        if "as" in rule:
            reading.take(key, key, rule["as"])
        return
    # FT's files name the parameter, others its module.
    if key == "rewrite_module_tmp" and isinstance(value, str):
        value = value.removesuffix(".weight")
    reading.take(key, key, value)


def _is_elsewhere(key: str, values: Mapping[str, Any], rows: Sequence[str]) -> bool:
    """Return whether a batch size is that of the edits, which the sweep or the command line gives."""
    return key == "batch_size" and (key not in fields_of(rows) or "batch_size_once" in values)


def _said(key: str, value: Any, entry: Mapping[str, Any], rows: Sequence[str]) -> list[str]:
    keeps = rows[0] in entry["true"]
    if bool(value) == keeps:
        return []
    others = ", ".join(entry["true"][:2])
    kept = "keeps the keys of earlier edits" if keeps else f"keeps no keys of earlier edits; {others} do"
    return [f"{key}: {str(value).lower()} has no effect: '{rows[0]}' {kept}"]


def _modules(value: Any, reading: _Reading, known: Mapping[str, Any]) -> None:
    """Read a list of parameters, such as model.layers.11.mlp.gate_proj or model.layers[11].mlp.gate_proj.weight: down
    projections as layers and their module, others as sites."""
    key = "inner_params"
    names = value if isinstance(value, list) else [value]
    plain = [name.replace("[", ".").replace("]", "") for name in names if isinstance(name, str)]
    matches = [_MODULE.fullmatch(name.removesuffix(".weight")) for name in plain]
    pairs = [(known.get(match[3].rpartition(".")[2], {}).get("name"), int(match[2])) for match in matches if match]
    if not pairs or len(pairs) != len(names) or any(name is None for name, _ in pairs):
        reading.faults.append(_no_matrix(key, names, known))
        return
    reading.take("layers", key, sorted({layer for _, layer in pairs}))
    if all(name == DOWN for name, _ in pairs):
        reading.take("rewrite_module_tmp", key, next(f"{match[1]}{{}}{match[3]}" for match in matches if match))
    else:
        kinds = dict.fromkeys(name for name, _ in pairs)
        sites = {kind: sorted(layer for name, layer in pairs if name == kind) for kind in kinds}
        reading.take("sites", key, sites)


def _adapted(value: Any, layers: Any, reading: _Reading, known: Mapping[str, Any]) -> None:
    """Read the names of the modules that have an adapter at each of the file's layers."""
    key = "target_modules"
    names = value if isinstance(value, list) else [value]
    kinds = [known[name]["name"] for name in names if name in known and not known[name].get("in_attention")]
    if not kinds or len(kinds) != len(names):
        reading.faults.append(_no_matrix(key, names, known))
    elif isinstance(layers, list) and layers and {*kinds} != {DOWN}:
        reading.take("sites", key, {kind: layers for kind in dict.fromkeys(kinds)})


def _no_matrix(key: str, names: Sequence[Any], known: Mapping[str, Any]) -> Fault:
    shown = ", ".join(str(name) for name in names[:3]) or "none"
    return key, f"matrices of MLPs are needed, not {shown}", f"their names end in {', '.join(known)}"


def _constants(
    table: Mapping[str, Any], found: Mapping[str, Any], rows: Sequence[str], notes: list[str]
) -> dict[str, Any]:
    """Return what the releases of these rows have in their code and the file does not have, and note it."""
    named = [*rows, *(f"{rows[0]}+{row}" for row in rows[1:])]
    added: dict[str, tuple[Any, str]] = {}
    for row in named:
        for key, entry in table.get(row, {}).items():
            added[key] = (entry["value"], entry["source"])
    missing = {key: entry for key, entry in added.items() if key not in found}
    notes += [f"{key} = {value}: not in the file; {source}" for key, (value, source) in missing.items()]
    return {key: value for key, (value, _) in missing.items()}


def _is_among(value: Any, choices: Collection[Any]) -> bool:
    # 0 and False are equal in Python; files use either for off, and 1 for on.
    return any(value == choice and isinstance(value, bool) == isinstance(choice, bool) for choice in choices)


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _shown(value: Any) -> str:
    """Return a value as files write it."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return f"{value!r:.40}"


def _number(value: Any) -> Any:
    if isinstance(value, list):
        return [_number(item) for item in value]
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value) if any(mark in value for mark in ".eE") else int(value)
    return value


def _table() -> Mapping[str, Any]:
    text = resources.files("sphere_core.hyperparameters").joinpath("released_keys.yaml").read_text(encoding="utf-8")
    table: Mapping[str, Any] = parse_yaml(text)
    return table
