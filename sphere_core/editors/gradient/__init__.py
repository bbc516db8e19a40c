"""Editors that take gradients of the edited weights."""
