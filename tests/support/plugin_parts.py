"""Plugins for tests: the file of the contributing guide, and packages with entry points on the path."""

import re
from pathlib import Path

from repository import REPOSITORY

__all__ = ["guide_plugin", "install_package"]


def guide_plugin() -> str:
    """The regularizer in one file of CONTRIBUTING.md."""
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = re.search(r"## Add a regularizer\n.*?```python\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return found[1]


def install_package(site: Path, module: str, source: str, points: dict[str, str]) -> None:
    """Put a module and the metadata of its distribution into a folder, as an installer does; group to name."""
    site.mkdir(exist_ok=True)
    (site / f"{module}.py").write_text(source, encoding="utf-8")
    metadata = site / f"{module}-1.0.dist-info"
    metadata.mkdir(exist_ok=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n", encoding="utf-8")
    lines = [f"[{group}]\n{name} = {module}\n" for group, name in points.items()]
    (metadata / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
