"""Queries of figures."""
