"""Queries of the report and of `sphere edits`."""
