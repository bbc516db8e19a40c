"""Queries of `sphere retention`."""
