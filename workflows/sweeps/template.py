"""The sweep file that `sphere init` writes: values from a template, comments from the descriptions of the fields."""

import re
import textwrap
from importlib.resources import files

from sphere_core.foundation.model_errors import model_at
from workflows.sweeps.spec import SweepSpec

__all__ = ["field_description", "sweep_template"]

_WIDTH = 116
# `#: path`, or `#:   name: path` for a field below the one above it.
_MARKER = re.compile(r"#:(?P<indent> +)(?:(?P<name>\w+): )?(?P<path>[\w.]+)")


def sweep_template() -> str:
    """Return the text of a commented sweep file that runs on the embedded model."""
    template = files(__package__).joinpath("template.yaml").read_text(encoding="utf-8")
    return "\n".join(line for text in template.splitlines() for line in _filled_in(text)) + "\n"


def field_description(path: str) -> str:
    """Return what the sweep file's reference says of a field, `models.dtype`; raises KeyError for one that is none."""
    *above, name = path.split(".")
    holder = model_at(SweepSpec, tuple(above))
    if holder is None:
        raise KeyError(path)
    return str(holder.model_fields[name].description)


def _filled_in(line: str) -> list[str]:
    marker = _MARKER.fullmatch(line)
    if marker is None:
        return [line]
    label = f"{marker['name']}: " if marker["name"] else ""
    text = label + field_description(marker["path"])
    begin = "#" + marker["indent"]
    return textwrap.wrap(text, _WIDTH, initial_indent=begin, subsequent_indent=begin + " " * (2 if label else 0))
