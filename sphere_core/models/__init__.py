"""Models: families as data, sites, loading, and the editable model."""

from typing import TYPE_CHECKING

from sphere_core.foundation.lazy import lazy_exports

if TYPE_CHECKING:
    from sphere_core.models.editable import EditableModel
    from sphere_core.models.family import Family, load_families, recognise_family
    from sphere_core.models.loading import load_model, load_skeleton
    from sphere_core.models.sites import Site, find_site
    from sphere_core.models.source import commit_of, model_digest, resolve_model

__all__ = [
    "EditableModel",
    "Family",
    "Site",
    "commit_of",
    "find_site",
    "load_families",
    "load_model",
    "load_skeleton",
    "model_digest",
    "recognise_family",
    "resolve_model",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "editable": "EditableModel",
        "family": "Family load_families recognise_family",
        "loading": "load_model load_skeleton",
        "sites": "Site find_site",
        "source": "commit_of model_digest resolve_model",
    },
)
