"""Names that are imported when they are first used, so that a command loads only what it needs."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["lazy_exports", "load_object"]


def load_object(path: str) -> Any:
    """Return what `package.module:name` names, importing the module.

    Raises ImportError or AttributeError if it is not there.
    """
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def lazy_exports(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a `__getattr__` (PEP 562) for a package whose names lie in its modules.

    `modules` maps a module of the package to the names it gives, separated by blanks. Importing the package then
    imports none of them.
    """
    places = {name: f"{package}.{module}:{name}" for module, names in modules.items() for name in names.split()}

    def find(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return load_object(places[name])

    return find
