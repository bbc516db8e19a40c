"""Scores of an edited model: edit quality, general ability, geometry."""

# Read as text by sphere_core/entry.py: distinguishes this package from another project's of the same name.
__distribution__ = "sphere-editing"
