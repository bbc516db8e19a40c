"""From a sweep file to scored checkpoints and tables. The only package that knows Ray."""

# Read as text by sphere_core/entry.py: distinguishes this package from another project's of the same name.
__distribution__ = "sphere-editing"
