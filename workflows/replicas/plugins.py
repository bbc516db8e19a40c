"""The plugins of a task, loaded on a worker: the very source that the sweep was planned with."""

from collections.abc import Iterable
from hashlib import sha256

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from sphere_core.plugins.found import NO_PLUGINS, Plugins
from sphere_core.plugins.reference import PluginReference
from workflows.store.layout import plugin_path

__all__ = ["planned_plugins"]


def planned_plugins(references: Iterable[PluginReference], storage: Storage) -> Plugins:
    """Load plugins from the sources below a sweep's root, and installed packages of the planned digest.

    Raises InputError if a source is missing or damaged, or if a package differs from the planned one.
    """
    wanted = tuple(references)
    if not wanted:
        return NO_PLUGINS

    def read(digest: str) -> bytes:
        path = plugin_path(digest)
        try:
            source = storage.read_bytes(path)
        except FileNotFoundError:
            source = b""
        if sha256(source).hexdigest() != digest:
            raise InputError(
                "the source of a plugin is missing or damaged",
                where=f"{storage.uri}/{path}",
                remedy="delete this file, and run the same command again: it is written before work begins",
            )
        return source

    return Plugins.of_references(wanted, read)
