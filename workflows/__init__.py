"""From a sweep file to scored checkpoints and tables. The only package that knows Ray."""
