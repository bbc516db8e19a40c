"""The plugins of a sweep or a command: files that it names, then installed packages by their entry points."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from sphere_core.foundation.errors import InputError
from sphere_core.plugins.module import TABLES, Plugin, installed_plugin, plugin_of_source
from sphere_core.plugins.reference import PluginReference

__all__ = ["NO_PLUGINS", "FoundRow", "Plugins", "entry_point_group"]


def entry_point_group(kind: str) -> str:
    """Return the group of entry points of a kind of rows: `sphere.regularizers`, `sphere.datasets`."""
    return f"sphere.{TABLES[kind].lower()}"


@dataclass(frozen=True)
class FoundRow:
    """A row from outside the release: its name, the row itself, and the plugin that brings it."""

    name: str
    row: Any
    plugin: Plugin


@dataclass(frozen=True)
class Plugins:
    """Loaded plugins. Installed packages are looked up when a name is found nowhere else, and are imported then."""

    loaded: tuple[Plugin, ...] = ()

    @classmethod
    def of_files(cls, paths: Iterable[Path], *, where: str | None = None) -> "Plugins":
        """Run plugin files; raises InputError for one that is missing or faulty, and for a name that two have."""
        plugins = []
        for path in paths:
            if not path.is_file():
                remedy = "name a Python file, relative to the sweep file; folders must be installed as packages"
                raise InputError(f"no plugin file '{path}'", where=where, remedy=remedy)
            source = path.read_bytes()
            digest = hashlib.sha256(source).hexdigest()
            plugins.append(plugin_of_source(source, name=path.name, digest=digest, place=str(path)))
        return cls(_distinct(plugins))

    @classmethod
    def of_references(cls, references: Iterable[PluginReference], read: Callable[[str], bytes]) -> "Plugins":
        """Load plugins by reference; `read` returns a file's source by its digest.

        Raises InputError if an installed package is not the one that was planned with.
        """
        plugins = []
        for reference in {one.digest: one for one in references}.values():
            if reference.packaged:
                plugin = installed_plugin(reference.name)
                if plugin.reference.digest != reference.digest:
                    raise InputError(
                        f"the plugin '{reference.name}' is not the one that the sweep was planned with: "
                        f"{plugin.reference.digest[:12]} here, {reference.digest[:12]} in the plan",
                        where=plugin.place,
                        remedy="install the same version on every node, or run the sweep again to plan with this one",
                    )
                plugins.append(plugin)
            else:
                source = read(reference.digest)
                plugins.append(
                    plugin_of_source(source, name=reference.name, digest=reference.digest, place=reference.name)
                )
        return cls(_distinct(plugins))

    def find(self, kind: str, name: str) -> FoundRow | None:
        """Return the row of a name, from a loaded plugin or else from an installed package; None if there is none.

        Raises InputError if two packages have it, or the module of one lacks the row.
        """
        for plugin in self.loaded:
            if name in plugin.rows.get(kind, {}):
                return FoundRow(name, plugin.rows[kind][name], plugin)
        points = _points(kind, name)
        if not points:
            return None
        if len(modules := sorted({point.value for point in points})) > 1:
            remedy = "uninstall one of these packages, or name a file under 'plugins'"
            raise InputError(f"several packages have the {kind} '{name}': {', '.join(modules)}", remedy=remedy)
        plugin = installed_plugin(points[0].module)
        if name not in plugin.rows.get(kind, {}):
            raise InputError(
                f"the entry point '{name}' leads to a module without this {kind}",
                where=plugin.place,
                remedy=f"the module must have {TABLES[kind]} with the key '{name}'",
            )
        return FoundRow(name, plugin.rows[kind][name], plugin)

    def names(self, kind: str) -> list[str]:
        """Return the names of a kind: of loaded plugins, then of installed packages, which are not imported."""
        loaded = [name for plugin in self.loaded for name in plugin.rows.get(kind, {})]
        installed = sorted(point.name for point in entry_points(group=entry_point_group(kind)))
        return list(dict.fromkeys([*loaded, *installed]))

    def refuse_taken(self, released: Mapping[str, Collection[str]]) -> None:
        """Raise InputError if a loaded plugin has a name of the release; `released` are its names by kind."""
        for plugin in self.loaded:
            for kind, rows in plugin.rows.items():
                for name in sorted({*rows} & {*released.get(kind, ())}):
                    raise InputError(
                        f"the name '{name}' is taken: the release has a {kind} of this name",
                        where=f"{plugin.place}, {TABLES[kind]}",
                        remedy="give the row another name",
                    )


NO_PLUGINS = Plugins()


def _points(kind: str, name: str) -> list[EntryPoint]:
    return list(entry_points(group=entry_point_group(kind), name=name))


def _distinct(plugins: list[Plugin]) -> tuple[Plugin, ...]:
    owners: dict[tuple[str, str], Plugin] = {}
    for plugin in plugins:
        for kind, rows in plugin.rows.items():
            for name in rows:
                first = owners.setdefault((kind, name), plugin)
                if first is not plugin:
                    raise InputError(
                        f"two plugins have the {kind} '{name}': {first.reference.name} and {plugin.reference.name}",
                        where=plugin.place,
                        remedy="give one of them another name, or leave one plugin out",
                    )
    return tuple(plugins)
