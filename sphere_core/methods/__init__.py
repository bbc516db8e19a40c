"""The table of methods: a name is an editor, with regularizers after plus signs.

A new closed-form editor is a row in `editors.py` with its rule; a new regularizer a row in `regularizers.py`. What a
row needs of the hyperparameters is listed in it and checked before anything runs.
"""

from typing import TYPE_CHECKING

from sphere_core.foundation.lazy import lazy_exports

if TYPE_CHECKING:
    from sphere_core.methods.editors import EDITORS
    from sphere_core.methods.method import Method, example_names, resolve_method
    from sphere_core.methods.regularizers import REGULARIZERS
    from sphere_core.methods.rows import EditorRow, RegularizerRow

__all__ = ["EDITORS", "REGULARIZERS", "EditorRow", "Method", "RegularizerRow", "example_names", "resolve_method"]

__getattr__ = lazy_exports(
    __name__,
    {
        "editors": "EDITORS",
        "method": "Method example_names resolve_method",
        "regularizers": "REGULARIZERS",
        "rows": "EditorRow RegularizerRow",
    },
)
