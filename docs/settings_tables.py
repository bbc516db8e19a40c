"""The settings of sweep files, evaluators and methods as Markdown: pydantic models as tables of their fields."""

import html
import inspect
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from evaluators.registry import EVALUATOR_KINDS
from sphere_core.hyperparameters import Hyperparameters
from sphere_core.streams.orders import Order
from workflows.store.policies import Keep
from workflows.sweeps.spec import SweepSpec

__all__ = ["BAR", "evaluator_fields", "field_table", "fields_without_description", "file_fields", "prose"]

BAR = r"\|"
# Models that a sweep file writes as one phrase; the description of the field that holds one says how.
WRITTEN_AS_TEXT = (Keep, Order)
_PLURAL = {"mapping": "mappings", "integer": "integers", "number": "numbers", "text": "texts"}


def file_fields(top: type[BaseModel]) -> str:
    """Return the fields of a YAML file, a section for each nested part."""
    return "\n".join(model_section(path, model) for path, model in parts(top, ""))


def evaluator_fields() -> str:
    """Return the settings of each evaluator kind."""
    tops = EVALUATOR_KINDS.items()
    return "\n".join(model_section(path, model) for kind, top in tops for path, model in parts(top, kind))


def parts(model: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield a model and every model nested in it, each with the keys that lead to it; depth first."""
    if model in WRITTEN_AS_TEXT:
        return
    yield path, model
    for name, field in model.model_fields.items():
        for nested in nested_models(field.annotation):
            yield from parts(nested, f"{path}.{name}".strip("."))


def nested_models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models inside `M`, `M | None`, `tuple[M, ...]` or a union of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from nested_models(inner)


def model_section(path: str, model: type[BaseModel]) -> str:
    """Return a heading, the model's docstring, and its fields."""
    title = f"`{path}` {{#{anchor(path)}}}" if path else "Top level"
    return f"## {title}\n\n{prose(inspect.getdoc(model))}\n\n{field_table(model, path)}"


def anchor(path: str) -> str:
    """Return the id of the section of a nested part."""
    return path.replace(".", "-")


def field_table(model: type[BaseModel], path: str = "") -> str:
    """Return the fields of a model as a Markdown table: name, type, default, description.

    A key that holds a nested part links to its section.
    """
    lines = ["| key | type | default | |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        if name != "kind":
            key = f"{path}.{name}".strip(".")
            nested = any(part not in WRITTEN_AS_TEXT for part in nested_models(field.annotation))
            title = f"[`{name}`](#{anchor(key)})" if nested else f"`{name}`"
            cells = (title, spelled(field.annotation), default_of(field), prose(field.description))
            lines.append("| " + " | ".join(cell.replace("|", BAR) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def default_of(field: FieldInfo) -> str:
    """Return a field's default as a sweep file would write it."""
    if field.is_required():
        return "**required**"
    default = field.get_default(call_default_factory=True)
    if default is PydanticUndefined or default is None or default in ((), {}):
        return ""
    if isinstance(default, BaseModel):
        text = getattr(default, "text", None) or getattr(default, "name", None)
        return f"`{text}`" if isinstance(text, str) else "see below"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`[{', '.join(map(str, default))}]`" if isinstance(default, tuple) else f"`{default}`"


def spelled(annotation: Any) -> str:
    """Return a type in the words of a YAML file."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return spelled(arguments[0])
    if origin is Literal:
        return ", ".join(f"`{str(value).lower() if isinstance(value, bool) else value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(spelled(inner) for inner in arguments if inner is not type(None)))
    if origin in (tuple, list):
        return f"list of {_PLURAL.get(spelled(arguments[0]), spelled(arguments[0]))}"
    if origin is dict or annotation is dict:
        return "mapping"
    words = {str: "text", int: "integer", float: "number", bool: "`true`, `false`", Any: "any"}
    if annotation in words:
        return words[annotation]
    if annotation in WRITTEN_AS_TEXT:
        return "text"
    return "mapping" if isinstance(annotation, type) and issubclass(annotation, BaseModel) else str(annotation)


def fields_without_description() -> list[str]:
    """Return the documented settings that have no description, as keys joined by dots."""
    tops: list[tuple[str, type[BaseModel]]] = [("", SweepSpec), ("hyperparameters", Hyperparameters)]
    return [
        f"{path}.{name}".strip(".")
        for top, model in [*tops, *EVALUATOR_KINDS.items()]
        for path, part in parts(model, top)
        for name, field in part.model_fields.items()
        if not field.description and name != "kind"
    ]


def prose(text: str | None) -> str:
    """Return a docstring or description as Markdown, with HTML and attribute lists outside of code escaped."""
    parts = html.escape(text or "", quote=False).split("`")
    return "`".join(part if place % 2 else part.replace("{", "&#123;") for place, part in enumerate(parts))
