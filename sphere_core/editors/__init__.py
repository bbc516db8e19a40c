"""Editors: from a batch of edit requests to updates of the edited sites."""

from sphere_core.editors.base import Editor
from sphere_core.editors.closed_form.loop import ClosedFormEditor

__all__ = ["ClosedFormEditor", "Editor"]
