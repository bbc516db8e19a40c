"""Queries of `sphere table --layout`."""
