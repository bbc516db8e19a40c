"""Streams: which edit requests are edited, and in which order."""
