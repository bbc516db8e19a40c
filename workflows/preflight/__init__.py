"""Checks before anything is loaded: the machine, the model, the price."""
