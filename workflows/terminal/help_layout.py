"""Layout of the help of a command: arguments and values in capitals."""

import re
from typing import Any

from typer.core import TyperCommand

__all__ = ["PlainCommand"]

# The value of an option, by the name that typer gives its type.
_VALUES = {
    "str": "TEXT",
    "path": "PATH",
    "file": "FILE",
    "directory": "DIR",
    "int": "NUMBER",
    "float": "NUMBER",
    "int range": "NUMBER",
    "float range": "NUMBER",
}


class PlainCommand(TyperCommand):
    """A command whose usage line reads `sphere plan [OPTIONS] SWEEP` under every version of typer."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the parts of the usage line after the command's name."""
        arguments = [param for param in self.get_params(ctx) if param.param_type_name == "argument"]
        pieces = [_argument_name(param) if param.required else f"[{_argument_name(param)}]" for param in arguments]
        return [*([self.options_metavar] if self.options_metavar else []), *pieces]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and the options with their help."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is None:
                continue
            if param.param_type_name == "argument":
                sections["Arguments"].append((_argument_name(param), record[1]))
            else:
                sections["Options"].append((re.sub(r"<([^<>]+)>", _value_name, record[0]), record[1]))
        for title, rows in sections.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def _argument_name(param: Any) -> str:
    name = (param.metavar or param.name).strip("[]").upper()
    return f"{name}..." if param.nargs != 1 else name


def _value_name(found: re.Match[str]) -> str:
    kind = re.sub(r"^list\[(.*)\]$", r"\1", found[1])
    return _VALUES.get(kind, kind)
