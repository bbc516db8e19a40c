"""Lists of layers on a command line."""

from sphere_core.foundation.errors import InputError

__all__ = ["parse_layers"]


def parse_layers(text: str) -> tuple[int, ...]:
    """Return layers separated by commas, ascending and distinct; raises InputError for any other text."""
    try:
        return tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError as error:
        raise InputError(f"'{text}' is not a list of layers", where="--layers", remedy="for example 4,5,6") from error
