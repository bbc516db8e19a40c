"""The `sphere` script: makes sure that the packages it is about to import are this project's, then starts it.

Other projects on the package index install top-level packages named `workflows` and `evaluators` too, and pip lets one
overwrite the other's files without a word. This file is in the one package that no other project has, and it imports
nothing else before it has looked.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

from sphere_core.foundation.lazy import load_object

__all__ = ["DISTRIBUTION", "PACKAGES", "foreign_package", "main", "other_owners"]

DISTRIBUTION = "sphere-editing"
PACKAGES = ("workflows", "evaluators")
# A line of the __init__.py of each package. A checkout, an editable install and a wheel have it alike.
MARKER = f'__distribution__ = "{DISTRIBUTION}"'


def main() -> None:
    """Run the command line; with another project's package in place of ours, say so in one line and exit with 2."""
    fault = foreign_package()
    if fault is not None:
        sys.stderr.write(f"sphere: {fault}\n")
        sys.exit(2)
    load_object("workflows.cli:main")()


def foreign_package() -> str | None:
    """Return one line that says which package is not this project's and what to do, or None. Imports neither."""
    for name in PACKAGES:
        spec = find_spec(name)
        origin = Path(spec.origin) if spec is not None and spec.origin is not None else None
        if origin is not None and origin.is_file() and MARKER in origin.read_text(encoding="utf-8", errors="replace"):
            continue
        place = "is missing" if origin is None else f"is another project's ({origin})"
        owners = [f"'{owner}'" for owner in other_owners(name)]
        installed_by = f", which {' and '.join(owners)} installs too" if owners else ""
        again = f"pip install --force-reinstall --no-deps {DISTRIBUTION}"
        return (
            f"the package '{name}' {place}{installed_by}: install {DISTRIBUTION} into an environment of its own, "
            f"or uninstall the other project and run '{again}'"
        )
    return None


def other_owners(package: str) -> list[str]:
    """Return the other installed distributions that bring a top-level package of this name; reads their metadata."""
    from importlib.metadata import packages_distributions  # slow to import, and needed in two cases only

    return sorted({owner for owner in packages_distributions().get(package, ()) if owner != DISTRIBUTION})
