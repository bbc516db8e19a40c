"""Presets: the hyperparameters of one model family, each with its source, for several methods."""

from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from sphere_core.foundation.errors import InputError, unknown_name
from sphere_core.foundation.yaml_files import read_yaml
from sphere_core.foundation.yaml_text import parse_yaml
from sphere_core.hyperparameters.build import build_hyperparameters
from sphere_core.hyperparameters.fields import Hyperparameters

__all__ = [
    "ReadPreset",
    "held_out_facts",
    "preset",
    "preset_misfit",
    "preset_names",
    "preset_sections",
    "preset_sources",
]

ReadPreset = Callable[[str], Mapping[str, Any]]


def preset_names() -> list[str]:
    """Return the names of the presets that ship with the package."""
    folder = resources.files("sphere_core.presets")
    return sorted(e.name.removesuffix(".yaml") for e in folder.iterdir() if e.name.endswith(".yaml"))


def preset_sections(name: str) -> Mapping[str, Any]:
    """Return a preset's sections, checked for their form: `name` is one of the package or the path of a YAML file."""
    if not name.endswith((".yaml", ".yml")):
        if name not in preset_names():
            raise unknown_name("preset", name, preset_names())
        text = resources.files("sphere_core.presets").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
        sections = parse_yaml(text)
    else:
        sections = read_yaml(Path(name), what="preset file").data
    needed = ("sources", "shared", "editors")
    if not isinstance(sections, dict) or any(not isinstance(sections.get(key), dict) for key in needed):
        raise InputError(f"a preset has the sections {', '.join(needed)}", where=name, remedy="see sphere_core/presets")
    _refuse_shapes(sections, name)
    return sections


def preset_sources(
    name: str, editor: str | None, regularizers: tuple[str, ...], *, read: ReadPreset = preset_sections
) -> dict[str, tuple[Any, str]]:
    """Return each value of one method in a preset with its source; raises InputError for an unknown preset or editor.

    `name` is a preset of the package or the path of a YAML file of the same form. Sections are merged in the order
    `shared`, `editors.EDITOR`, `regularizers.NAME`, `combinations.EDITOR+NAME`. Without an editor, as for a plugin's
    that starts from no other, only `shared` and the regularizers' are. `read` saves reading a file again where the
    caller keeps what was read.
    """
    sections = read(name)
    if editor is not None and editor not in sections["editors"]:
        raise unknown_name("editor", editor, sections["editors"], where=f"preset '{name}'")
    merged = {**sections["shared"], **(sections["editors"][editor] or {} if editor is not None else {})}
    for regularizer in regularizers:
        merged |= (sections.get("regularizers") or {}).get(regularizer) or {}
        merged |= (sections.get("combinations") or {}).get(f"{editor}+{regularizer}") or {}
    return {key: (entry["value"], _spelled_out(entry["source"], sections["sources"])) for key, entry in merged.items()}


def preset_misfit(
    name: str, *, family: str, layers: int, d_out: int, d_in: int, read: ReadPreset = preset_sections
) -> str | None:
    """Return how a model differs from the one that a preset was made for, or None if it does not, or no preset says.

    `d_out` and `d_in` are those of the edited weights.
    """
    made_for = read(name).get("made_for")
    if not isinstance(made_for, dict):
        return None
    found = {"family": family, "layers": layers, "d_out": d_out, "d_in": d_in}
    parts = [f"{key} {made_for[key]}, not {value}" for key, value in found.items() if made_for.get(key, value) != value]
    return f"preset '{name}' was made for another model: {', '.join(parts)}" if parts else None


def held_out_facts(name: str, *, read: ReadPreset = preset_sections) -> frozenset[str]:
    """Return the keys (`fact_key`) of the facts that a calibrated preset was chosen on; empty for any other preset.

    Raises InputError if the preset's section `held_out` does not list any.
    """
    section = read(name).get("held_out")
    if section is None:
        return frozenset()
    facts = section.get("facts") if isinstance(section, dict) else None
    if not isinstance(facts, list) or not all(isinstance(fact, str) for fact in facts):
        remedy = "leave the section as 'sphere calibrate' wrote it, or take it out: its facts are then edited"
        raise InputError("the section 'held_out' does not list facts", where=f"preset '{name}'", remedy=remedy)
    return frozenset(facts)


def _refuse_shapes(sections: Mapping[str, Any], name: str) -> None:
    """Raise InputError for a section that is not `KEY: {value: ..., source: ...}`."""
    groups = [("shared", sections["shared"])]
    for kind in ("editors", "regularizers", "combinations"):
        held = sections.get(kind) or {}
        if not isinstance(held, dict):
            raise InputError(f"the section '{kind}' holds no names", where=name, remedy="see sphere_core/presets")
        groups += [(f"{kind}.{row}", entries) for row, entries in held.items()]
    for place, entries in groups:
        for key, entry in (entries or {}).items() if isinstance(entries, dict | None) else [("", None)]:
            if not isinstance(entry, dict) or "value" not in entry or not isinstance(entry.get("source"), str):
                raise InputError(
                    "every value of a preset has a source",
                    where=f"{name}, section {place}" + (f", key {key}" if key else ""),
                    remedy='write KEY: {value: ..., source: "..."}',
                )


def _spelled_out(source: str, abbreviations: Mapping[str, str]) -> str:
    """Replace `[R]` and its like by what the preset says it stands for."""
    for short, long in abbreviations.items():
        source = source.replace(f"[{short}]", long)
    return source


def preset(
    name: str,
    editor: str | None,
    regularizers: tuple[str, ...],
    overrides: Mapping[str, Any] | None = None,
    *,
    read: ReadPreset = preset_sections,
) -> Hyperparameters:
    """Return the preset of one method on one model family, with a user's overrides on top.

    Raises InputError for an unknown preset or editor, or a value that is not valid.
    """
    values = {key: value for key, (value, _) in preset_sources(name, editor, regularizers, read=read).items()}
    given = {*(overrides or {})} & {"layers", "sites"}
    # Either one says where: the preset's other does not fit it.
    values = {key: value for key, value in values.items() if not given or key not in ("layers", "sites")}
    where = f"preset '{name}' with overrides"
    rows = (*([] if editor is None else [editor]), *regularizers)
    return build_hyperparameters({**values, **(overrides or {})}, where=where, rows=rows)
