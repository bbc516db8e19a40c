"""Published hyperparameter files as they are: JSON and YAML, in the spellings of each method's release."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
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


def released_values(values: Mapping[str, Any], rows: Sequence[str]) -> tuple[dict[str, Any], list[str], list[Fault]]:
    """Return the hyperparameters of a published file under our names, notes to show, and the faults of its keys."""
    table = _table()
    ignored = {key for keys in table["ignored"].values() for key in keys}
    found: dict[str, Any] = {}
    notes: list[str] = []
    faults: list[Fault] = []
    for key, given in values.items():
        value = _number(given)
        alias = next((entry for entry in table["aliases"].get(key, ()) if {*entry["rows"]} & {*rows}), None)
        if alias is not None:
            found[alias["name"]] = alias.get("values", {}).get(str(value).lower(), value)
        elif key in table["only_off"]:
            if not _is_among(value, table["only_off"][key]["values"]):
                faults.append((key, f"{value!r:.40} changes the method and is not supported", "only off is"))
        elif key in table["said_by_the_method"]:
            notes += _said(key, value, table["said_by_the_method"][key], rows)
        elif key == "inner_params":
            faults += _modules(value, found, table["modules"])
        elif key == "layer_selection" and value != "all":
            faults.append((key, "only 'all' is supported", ""))
        elif key not in ignored and not _is_elsewhere(key, values, rows):
            _take(key, value, table["unset"], found)
    return found | _constants(table["constants"], found, rows, notes), notes, faults


def _take(key: str, value: Any, unset: Mapping[str, Any], found: dict[str, Any]) -> None:
    rule = unset.get(key)
    if rule is not None and _is_among(value, rule["values"]):
        if "as" in rule:
            found[key] = rule["as"]
        return
    # FT's files name the parameter, others its module.
    if key == "rewrite_module_tmp" and isinstance(value, str):
        value = value.removesuffix(".weight")
    found[key] = value


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


def _modules(value: Any, found: dict[str, Any], known: Mapping[str, Any]) -> list[Fault]:
    """Read a list of parameters, such as model.layers.11.mlp.gate_proj: down projections as layers and their module,
    others as sites."""
    names = value if isinstance(value, list) else [value]
    matches = [_MODULE.fullmatch(name.removesuffix(".weight")) for name in names if isinstance(name, str)]
    pairs = [(known.get(match[3].rpartition(".")[2], {}).get("name"), int(match[2])) for match in matches if match]
    if not pairs or len(pairs) != len(names) or any(name is None for name, _ in pairs):
        shown = ", ".join(str(name) for name in names[:3]) or "none"
        return [("inner_params", f"matrices of MLPs are needed, not {shown}", f"their names end in {', '.join(known)}")]
    found["layers"] = sorted({layer for _, layer in pairs})
    if all(name == DOWN for name, _ in pairs):
        found["rewrite_module_tmp"] = next(f"{match[1]}{{}}{match[3]}" for match in matches if match)
    else:
        kinds = dict.fromkeys(name for name, _ in pairs)
        found["sites"] = {kind: sorted(layer for name, layer in pairs if name == kind) for kind in kinds}
    return []


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
