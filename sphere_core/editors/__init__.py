"""Editors: from a batch of edit requests to updates of the edited sites."""

from typing import TYPE_CHECKING

from sphere_core.foundation.lazy import lazy_exports

if TYPE_CHECKING:
    from sphere_core.editors.base import Editor
    from sphere_core.editors.closed_form.loop import ClosedFormEditor

__all__ = ["ClosedFormEditor", "Editor"]

__getattr__ = lazy_exports(
    __name__,
    {
        "base": "Editor",
        "loop": "ClosedFormEditor",
    },
)
