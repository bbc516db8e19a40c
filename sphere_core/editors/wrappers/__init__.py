"""Editors around an editor: the gate, and read-out of other weights than those edited."""
