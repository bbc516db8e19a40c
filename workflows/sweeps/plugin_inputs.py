"""The plugins of a sweep: which rows of the grid are not part of the release, and whose code they are."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from sphere_core.datasets.outside import outside_dataset
from sphere_core.foundation.yaml_files import YamlText
from sphere_core.methods import Method
from sphere_core.models.family import Family
from sphere_core.plugins.found import FoundRow, Plugins
from sphere_core.plugins.module import Plugin
from sphere_core.plugins.reference import PluginReference
from workflows.store.plan import RowOfPlugin
from workflows.sweeps.paths import resolve_path
from workflows.sweeps.spec import SweepSpec

__all__ = ["UsedRows", "outside_inputs", "plugins_of", "reader_code"]


def plugins_of(spec: SweepSpec, text: YamlText, folder: Path) -> Plugins:
    """Run the plugin files that a sweep file names, relative to its `folder`; raises InputError for a faulty one."""
    return Plugins.of_files((resolve_path(file, folder) for file in spec.plugins), where=text.where(("plugins",)))


def outside_inputs(dataset: str, family: Family, plugins: Plugins) -> dict[str, FoundRow]:
    """Return the plugins' rows that read a stream's data set and say where a model's modules are, by kind."""
    found = {"dataset": outside_dataset(dataset, plugins)}
    if family.outside:
        found["family"] = plugins.find("family", family.name)
    return {kind: row for kind, row in found.items() if row is not None}


def reader_code(outside: Mapping[str, FoundRow]) -> dict[str, PluginReference]:
    """Return the code that reads the data set, as a specification names it; a family is in the model's digest."""
    row = outside.get("dataset")
    return {} if row is None else {f"dataset/{row.name}": row.plugin.reference}


class UsedRows:
    """The rows of plugins that a sweep uses, each once, with the code that brings them."""

    def __init__(
        self, methods: Iterable[Method], inputs: Iterable[tuple[str, FoundRow]], evaluators: Mapping[str, Plugin]
    ) -> None:
        """`inputs` are the data sets and families, each with its kind."""
        self._rows: dict[tuple[str, str], Plugin] = {}
        for method in methods:
            for found in method.plugins:
                kind = "editor" if found.name == method.editor_name else "regularizer"
                self._rows[(kind, found.name)] = found.plugin
        self._rows |= {(kind, found.name): found.plugin for kind, found in inputs}
        self._rows |= {("evaluator", name): plugin for name, plugin in evaluators.items()}

    def records(self) -> tuple[RowOfPlugin, ...]:
        """Return them as the plan records them."""
        return tuple(
            RowOfPlugin(kind=kind, row=row, plugin=plugin.reference) for (kind, row), plugin in self._rows.items()
        )

    def notes(self) -> list[str]:
        """Return a line for each: rows of a table that others cannot repeat without this code."""
        return [
            f"the {kind} '{row}' is code of {plugin.reference.short}, not of this release"
            for (kind, row), plugin in self._rows.items()
        ]

    def sources(self) -> dict[str, bytes]:
        """Return the sources of plugin files by digest; packages have to be installed on every node."""
        plugins = self._rows.values()
        return {plugin.reference.digest: plugin.source for plugin in plugins if plugin.source is not None}
