"""Data sets of edit requests: one reader a schema, and the embedded fact world."""
