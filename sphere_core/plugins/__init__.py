"""Code from outside the release: plugin files and packages, found, digested and loaded. A plugin is code that is run.

A plugin is a Python module with tables like those of the release: EDITORS, REGULARIZERS, EVALUATORS, DATASETS,
FAMILIES. This
room finds modules and reads tables; what a row must be is said where the rows of the release are.
"""

from typing import TYPE_CHECKING

from sphere_core.foundation.lazy import lazy_exports

if TYPE_CHECKING:
    from sphere_core.plugins.found import NO_PLUGINS, FoundRow, Plugins
    from sphere_core.plugins.reference import PluginReference
    from sphere_core.plugins.settings import RowSettings, read_settings, setting

__all__ = ["NO_PLUGINS", "FoundRow", "PluginReference", "Plugins", "RowSettings", "read_settings", "setting"]

__getattr__ = lazy_exports(
    __name__,
    {
        "found": "NO_PLUGINS FoundRow Plugins",
        "reference": "PluginReference",
        "settings": "RowSettings read_settings setting",
    },
)
